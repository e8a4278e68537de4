"""Every row of the answer table, as bytes on a socket, with a real RabbitMQ behind it."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from bridge import events
from bridge.receiver.body import MAX_BODY
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.settings.loading import load_settings
from tests.conftest import OTHER_TOKEN, TOKEN
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, receiving
from tests.support.wire import TOO_LARGE, Wire, ask, chunked, head, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Receiving
    from tests.support.wire import Answer

pytestmark = pytest.mark.quick

DOCUMENTED = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173, "data": {"url": "https://example.com"}}}'
"""The body of the provider's own page."""

NOWHERE = "/dev/null/spool"
"""No folder can be made there, so the spool takes nothing."""
NEITHER = "neither RabbitMQ nor the spool can take it"

CONFIRMED = b'{"status":"accepted","id":"%s","durability":"confirmed"}'


def body(name: str, message_id: int = 1) -> bytes:
    return b'{"message":{"id":%d},"event":{"name":"%s","timestamp":1539062173}}' % (message_id, name.encode())


def sized(size: int) -> bytes:
    """An event of exactly this many bytes."""
    return body("opened").ljust(size)


def answered(metrics: Metrics, answer: str) -> float:
    return metrics.registry.get_sample_value("bridge_answers_total", {"answer": answer}) or 0


def is_rejection(answer: Answer, status: str, reason: str) -> bool:
    version, _, said = answer.status_line.partition(" ")
    assert said == status
    assert version in {"HTTP/1.1", "HTTP/1.0"}, "1.0 where aiohttp could not read the request's own version"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json.keys() == {"status", "reason"}
    assert answer.json["status"] == "refused"
    assert reason in answer.json["reason"]
    return True


async def goes_on(receiver: Receiving) -> bool:
    """Whether a good event on a new connection is still accepted."""
    answer = await ask(receiver.port, post(DOCUMENTED))
    return answer.body == CONFIRMED % events.parse(DOCUMENTED).id.encode()


@asynccontextmanager
async def ready(overrides: dict[str, Any], metrics: Metrics, **knob: Any) -> AsyncIterator[Receiving]:
    """A receiver with these settings of its section, that has reached RabbitMQ."""
    settings = load_settings(overrides=overrides | {"receiver": overrides["receiver"] | knob})
    async with receiving(settings, metrics, exchange_alone(settings)) as receiver:
        await receiver.line.up()
        yield receiver


@pytest.fixture
async def receiver(overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit) -> AsyncIterator[Receiving]:
    """A receiver that has reached RabbitMQ."""
    async with ready(overrides, metrics) as listening:
        yield listening
    del rabbit  # it deletes the exchange, and so it must outlive the receiver


async def test_all_events_are_accepted_byte_for_byte(receiver: Receiving, metrics: Metrics) -> None:
    """All eight names, the other spelling and a name nobody knows: 200 `confirmed`, with the event's id."""
    for name in [*sorted(events.KNOWN_NAMES), "complined", "teleported"]:
        answer = await ask(receiver.port, post(body(name)))
        assert answer.status_line == "HTTP/1.1 200 OK"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.body == CONFIRMED % events.parse(body(name)).id.encode()
    assert answered(metrics, "confirmed") == 10
    received = metrics.registry.get_sample_value
    assert received("bridge_events_received_total", {"name": "complained"}) == 2, "both spellings"
    assert received("bridge_events_received_total", {"name": "other"}) == 1, "the name nobody knows"


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        (b"[]", "the body is not an object"),
        (b"null", "the body is not an object"),
        (b'"clicked"', "the body is not an object"),
        (b"{}", "message is missing or not an object"),
        (b'{"message":{"id":1}}', "event is missing or not an object"),
        (b'{"message":1,"event":{}}', "message is missing or not an object"),
        (b'{"message":{},"event":{"name":"opened","timestamp":1}}', "message.id is neither"),
        (b'{"message":{"id":true},"event":{"name":"opened","timestamp":1}}', "message.id is neither"),
        (
            b'{"message":{"id":18446744073709551616.5},"event":{"name":"opened","timestamp":1}}',
            "message.id is neither",
        ),
        (b'{"message":{"id":1},"event":{"timestamp":1}}', "event.name is not"),
        (b'{"message":{"id":1},"event":{"name":"","timestamp":1}}', "event.name is not"),
        (b'{"message":{"id":1},"event":{"name":"malformed","timestamp":1}}', "event.name is not"),
        (b'{"message":{"id":1},"event":{"name":"opened"}}', "event.timestamp is not"),
        (b'{"message":{"id":1},"event":{"name":"opened","timestamp":"soon"}}', "event.timestamp is not"),
        (b'{"message":{"id":1},"event":{"name":"\\ud800","timestamp":1}}', "event.name is not"),
        (b"\xef\xbb\xbf{}", "message is missing or not an object"),
        (b"[" * 30_000 + b"]" * 30_000, "nested too deeply"),
    ],
    ids=lambda value: value[:50] if isinstance(value, bytes) else "",
)
async def test_json_that_is_no_event_is_quarantined(
    receiver: Receiving, metrics: Metrics, malformed: bytes, reason: str
) -> None:
    """It is answered 200 with the reason, so that the provider does not repeat what we have kept."""
    answer = await ask(receiver.port, post(malformed))
    assert answer.status_line == "HTTP/1.1 200 OK"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"status", "reason"}
    assert answer.json["status"] == "quarantined"
    assert answer.json["reason"].startswith(reason) or reason in answer.json["reason"]
    assert answered(metrics, "quarantined") == 1
    assert await goes_on(receiver)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the body is empty"),
        (b" \r\n\t", "the body is empty"),
        (b"message=1&event=clicked", "the body is not JSON"),
        (DOCUMENTED[:-1], "the body is not JSON"),
        (DOCUMENTED + b"}", "the body is not JSON"),
        (b'{"message":{"id":NaN}}', "the body is not JSON"),
        (b'{"message":{"id":"\xff"}}', "the body is not UTF-8 text"),
        (DOCUMENTED.decode().encode("utf-16"), "the body is not UTF-8 text"),
    ],
    ids=["empty", "blank", "form", "cut off", "too long", "NaN", "Latin-1", "UTF-16"],
)
async def test_what_is_not_json_is_refused(
    receiver: Receiving, metrics: Metrics, content: bytes, reason: str
) -> None:
    """400 with the reason, counted; the next event is accepted."""
    assert is_rejection(await ask(receiver.port, post(content)), "400 Bad Request", reason)
    assert answered(metrics, "400") == 1
    assert await goes_on(receiver)


async def test_a_post_without_a_body_at_all_is_refused(receiver: Receiving) -> None:
    """Neither a length nor chunks: the body is empty."""
    assert is_rejection(await ask(receiver.port, head("POST")), "400 Bad Request", "the body is empty")
    assert await goes_on(receiver)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/webhooks/msndr",
        WEBHOOK_PATH,
        f"{WEBHOOK_PATH}{TOKEN}x",
        f"{WEBHOOK_PATH}{TOKEN[:-1]}",
        f"{WEBHOOK_PATH}{TOKEN}/",
        f"{WEBHOOK_PATH}{TOKEN.upper()}",
        f"{WEBHOOK_PATH}%ff%00",
        f"{WEBHOOK_PATH}../msndr/{TOKEN}x",
        f"/webhooks/other/{TOKEN}",
        f"/webhooks/msndr%2F{TOKEN}",
        f"/webhooks/%6Dsndr/{TOKEN}",
        f"{WEBHOOK_PATH}%{ord(TOKEN[0]):02x}{TOKEN[1:]}",
        f"{WEBHOOK_PATH}{TOKEN}%3Fcampaign=1",
        f"/{WEBHOOK_PATH}{TOKEN}",
        f"/webhooks/./msndr/{TOKEN}",
        f"/x/..{WEBHOOK_PATH}{TOKEN}",
        f"http://bridge{WEBHOOK_PATH}{TOKEN}",
    ],
)
async def test_a_wrong_token_is_404_whatever_the_method(
    receiver: Receiving, metrics: Metrics, path: str
) -> None:
    """Nothing tells a stranger whether the path or the token was wrong, nor which methods there are.

    A path that is only equal to ours once it is decoded or made short is wrong: proxies' rules do not match it.
    """
    for method in ("POST", "GET", "DELETE"):
        request = f"{method} {path} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(DOCUMENTED)}\r\n\r\n"
        answer = await ask(receiver.port, request.encode() + DOCUMENTED)
        assert is_rejection(answer, "404 Not Found", "there is nothing here")
        assert TOKEN.encode() not in answer.body
    assert answered(metrics, "404") == 3
    assert await goes_on(receiver)


async def test_several_tokens_are_valid_at_once(receiver: Receiving) -> None:
    """While a token is rotated, the old and the new one both work; the query does not matter."""
    for token in (TOKEN, OTHER_TOKEN, f"{TOKEN}?campaign=1"):
        answer = await ask(receiver.port, post(DOCUMENTED, token=token))
        assert answer.json["durability"] == "confirmed"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_wrong_method_is_answered_with_the_right_ones(
    receiver: Receiving, metrics: Metrics, method: str
) -> None:
    """405 with `Allow`, and the body is not read as an event."""
    answer = await ask(receiver.port, head(method, f"Content-Length: {len(DOCUMENTED)}") + DOCUMENTED)
    assert is_rejection(answer, "405 Method Not Allowed", "GET, HEAD, POST")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answered(metrics, "405") == 1
    assert answered(metrics, "confirmed") == 0
    assert await goes_on(receiver)


async def test_probes_are_answered(receiver: Receiving, metrics: Metrics) -> None:
    """GET and HEAD answer 200, HEAD without the body; the connection stays usable."""
    async with Wire.to(receiver.port) as wire:
        wire.send(head("HEAD"), head("GET"), post(DOCUMENTED))
        probed = await wire.answer(with_body=False)
        assert (probed.status_line, probed.headers["content-length"]) == ("HTTP/1.1 200 OK", "18")
        assert (await wire.answer()).body == b'{"status":"ready"}'
        assert (await wire.answer()).json["durability"] == "confirmed"
    assert answered(metrics, "probe") == 2


@pytest.mark.parametrize("framed", [post, chunked], ids=["length", "chunked"])
async def test_64_kib_are_taken_and_one_byte_more_is_not(
    receiver: Receiving, metrics: Metrics, framed: Callable[[bytes], bytes]
) -> None:
    """The limit is on the body, however it is framed; the process goes on."""
    assert (await ask(receiver.port, framed(sized(MAX_BODY)))).json["durability"] == "confirmed"
    answer = await ask(receiver.port, framed(sized(MAX_BODY + 1)))
    assert is_rejection(answer, TOO_LARGE, "the body is larger than 65536 bytes")
    assert answer.headers["connection"] == "close"
    assert answered(metrics, "413") == 1
    assert await goes_on(receiver)


async def test_a_length_above_64_kib_is_refused_before_the_body_comes(receiver: Receiving) -> None:
    """The client hears it at once, and the connection ends: what follows would not be a request."""
    async with Wire.to(receiver.port) as wire:
        wire.send(head("POST", "Content-Length: 1000000000000"))
        assert is_rejection(await wire.answer(), TOO_LARGE, "65536")
        assert await wire.rest() == b""


async def test_chunks_without_end_are_refused(receiver: Receiving) -> None:
    """What goes over the limit in chunks is not kept, and the rest of it is not waited for."""
    async with Wire.to(receiver.port) as wire:
        wire.send(head("POST", "Transfer-Encoding: chunked"), b"10000\r\n", b" " * 65536, b"\r\n1\r\n \r\n")
        assert is_rejection(await wire.answer(), TOO_LARGE, "65536")
        assert await wire.rest() == b""
    assert await goes_on(receiver)


async def test_a_compressed_body_counts_as_what_it_unpacks_to(receiver: Receiving) -> None:
    """A small one is read; one that unpacks to more than the limit is 413, one that cannot be unpacked 400."""
    packed = post(gzip.compress(DOCUMENTED), "Content-Encoding: gzip")
    assert (await ask(receiver.port, packed)).json["durability"] == "confirmed"
    bomb = post(gzip.compress(sized(50_000_000)), "Content-Encoding: gzip")
    assert is_rejection(await ask(receiver.port, bomb), TOO_LARGE, "65536")
    garbage = post(DOCUMENTED, "Content-Encoding: gzip")
    assert is_rejection(await ask(receiver.port, garbage), "400 Bad Request", "badly encoded")
    assert await goes_on(receiver)


async def test_a_client_that_expects_100_continue_gets_it(receiver: Receiving) -> None:
    """`Expect: 100-continue` (libcurl above 1 KiB, .NET): the body is asked for at once, a second answer follows."""
    async with Wire.to(receiver.port) as wire:
        wire.send(head("POST", f"Content-Length: {len(DOCUMENTED)}", "Expect: 100-continue"))
        assert (await wire.answer()).status_line == "HTTP/1.1 100 Continue"
        wire.send(DOCUMENTED)
        assert (await wire.answer()).json["durability"] == "confirmed"


@pytest.mark.parametrize(
    ("length", "token", "status"),
    [
        (MAX_BODY + 1, TOKEN, TOO_LARGE),
        (len(DOCUMENTED), "not-a-token-of-ours", "404 Not Found"),
    ],
)
async def test_a_client_that_asks_first_is_refused_before_it_sends(
    receiver: Receiving, length: int, token: str, status: str
) -> None:
    """The body that would be refused is never asked for."""
    async with Wire.to(receiver.port) as wire:
        wire.send(head("POST", f"Content-Length: {length}", "Expect: 100-continue", token=token))
        assert is_rejection(await wire.answer(), status, "")


async def test_a_body_too_slow_is_408(overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit) -> None:
    """The server's own timer ends the wait, and the connection."""
    assert rabbit
    async with ready(overrides, metrics, body_timeout=0.2) as receiver:
        async with Wire.to(receiver.port) as wire:
            wire.send(head("POST", "Content-Length: 100"), b'{"message":')
            answer = await wire.answer()
            assert is_rejection(answer, "408 Request Timeout", "the body did not arrive in 0.2 s")
            assert answer.headers["connection"] == "close"
            assert await wire.rest() == b""
        assert answered(metrics, "408") == 1
        assert await goes_on(receiver)


@pytest.mark.parametrize("started", [b"", b"POST /webhooks/msndr/", head("POST")[:-2]])
async def test_a_head_too_slow_ends_the_connection(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, started: bytes
) -> None:
    """A client that never finishes its head (Slowloris), or sends nothing at all, holds no socket for long."""
    assert rabbit
    async with ready(overrides, metrics, head_timeout=0.3) as receiver:
        async with Wire.to(receiver.port) as wire:
            wire.send(started)
            assert await wire.rest() == b""
        assert await goes_on(receiver)


async def test_an_idle_connection_is_ended(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit
) -> None:
    """Keep-alive is bounded: after an answer, the connection waits as long as a head may take, no longer."""
    assert rabbit
    # Long enough that the second request comes in time although all of us stand still for a second.
    async with ready(overrides, metrics, head_timeout=2) as receiver, Wire.to(receiver.port) as wire:
        for _ in range(2):
            wire.send(post(DOCUMENTED))
            assert (await wire.answer()).json["durability"] == "confirmed"
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}}}}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"],
    ids=["no length", "wrong length", "negative length"],
)
async def test_broken_chunks_are_refused(receiver: Receiving, metrics: Metrics, chunks: bytes) -> None:
    """400 in our shape, once, and the connection ends: nobody knows where the next request would begin."""
    with capture_logs() as logs:
        async with Wire.to(receiver.port) as wire:
            wire.send(head("POST", "Transfer-Encoding: chunked"), chunks, post(DOCUMENTED))
            assert is_rejection(await wire.answer(), "400 Bad Request", "")
            assert await wire.rest() == b""
    assert answered(metrics, "400") == 1
    assert not [line for line in logs if line["log_level"] == "error"]
    assert await goes_on(receiver)


async def test_chunks_that_break_on_the_way_are_refused_once(receiver: Receiving, metrics: Metrics) -> None:
    """The body breaks while it is read, not before: still one 400, and the end of the connection."""
    with capture_logs() as logs:
        async with Wire.to(receiver.port) as wire:
            wire.send(head("POST", "Transfer-Encoding: chunked", "Expect: 100-continue"))
            assert (await wire.answer()).status_line == "HTTP/1.1 100 Continue"
            wire.send(b"1\r\n{\r\nzz\r\n")
            assert is_rejection(await wire.answer(), "400 Bad Request", "badly encoded")
            assert await wire.rest() == b""
    assert answered(metrics, "400") == 1
    assert not [line for line in logs if line["log_level"] == "error"]
    assert await goes_on(receiver)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        head("POST", "Content-Length: -1"),
        head("POST", "Content-Length: 1x"),
        head("POST", "Content-Length: 1", "Content-Length: 2"),
        head("POST", "Content-Length: 1", "Transfer-Encoding: chunked"),
        head("POST", "Bad Name: 1"),
        head("POST", "X-Long: " + "x" * 10_000),
        head("POST", *(f"X-{number}: 1" for number in range(200))),
        b"POST /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: bridge\r\n\r\n",
    ],
    ids=[
        "TLS",
        "HTTP/2",
        "a word",
        "no path",
        "HTTP/9.9",
        "negative length",
        "no number",
        "two lengths",
        "length and chunks",
        "bad header",
        "long header",
        "many headers",
        "long path",
    ],
)
async def test_what_is_not_http_is_refused(receiver: Receiving, metrics: Metrics, garbage: bytes) -> None:
    """400 in our shape, without our own words turned back at the caller, and the connection ends."""
    with capture_logs() as logs:
        async with Wire.to(receiver.port) as wire:
            wire.send(garbage)
            assert is_rejection(await wire.answer(), "400 Bad Request", "not an HTTP request")
            assert await wire.rest() == b""
    assert answered(metrics, "400") == 1
    assert not [line for line in logs if line["log_level"] == "error"]
    assert await goes_on(receiver)


async def test_a_client_that_goes_in_the_middle_of_its_body_breaks_nothing(
    receiver: Receiving, metrics: Metrics
) -> None:
    """Half an event is no event: nothing is published, nothing is logged as an error, the process goes on."""
    with capture_logs() as logs:
        for framing in ("Content-Length: 200", "Transfer-Encoding: chunked"):
            async with Wire.to(receiver.port) as wire:
                wire.send(head("POST", framing), b"5\r\n12345\r\n")
        await eventually(lambda: answered(metrics, "400") == 2)
    assert not [line for line in logs if line["log_level"] == "error"]
    assert answered(metrics, "confirmed") == 0
    assert await goes_on(receiver)


async def test_pipelined_requests_are_answered_in_order(receiver: Receiving) -> None:
    """Many in one write, good and bad: each has its own answer, in the order of the questions."""
    bodies = [body("opened", number) for number in range(100)]
    async with Wire.to(receiver.port) as wire:
        wire.send(*(post(content) + post(b"no event") for content in bodies))
        for content in bodies:
            assert (await wire.answer()).json["id"] == events.parse(content).id
            assert (await wire.answer()).status_line == "HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_an_offer_to_change_the_protocol_is_ignored(receiver: Receiving, protocol: str) -> None:
    """The event is taken, and the connection goes on as it was."""
    async with Wire.to(receiver.port) as wire:
        for _ in range(2):
            wire.send(post(DOCUMENTED, "Connection: Upgrade", f"Upgrade: {protocol}"))
            assert (await wire.answer()).json["durability"] == "confirmed"


async def test_an_old_client_is_answered_and_let_go(receiver: Receiving) -> None:
    """HTTP/1.0 without keep-alive."""
    request = b"POST %s%s HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (
        WEBHOOK_PATH.encode(),
        TOKEN.encode(),
        len(DOCUMENTED),
    )
    async with Wire.to(receiver.port) as wire:
        wire.send(request, DOCUMENTED)
        assert (await wire.answer()).json["durability"] == "confirmed"
        assert await wire.rest() == b""


async def test_without_a_broker_it_is_503(overrides: dict[str, Any], metrics: Metrics, amqp_url: str) -> None:
    """No connection and no spool: refused at once, with `Retry-After`; bad input still gets its own answer."""
    overrides["spool"]["directory"] = NOWHERE
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with receiving(settings, metrics, exchange_alone(settings)) as receiver:
            for content in (DOCUMENTED, b"{}"):
                answer = await ask(receiver.port, post(content))
                assert is_rejection(answer, "503 Service Unavailable", NEITHER)
                assert answer.headers["retry-after"] == "5"
            assert is_rejection(await ask(receiver.port, post(b"")), "400 Bad Request", "empty")
            assert answered(metrics, "503") == 2


async def test_a_confirm_that_does_not_come_is_503_in_time(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """A broker that takes and does not confirm, and no spool: 503 after `confirm_wait`; then it is as before."""
    assert rabbit
    overrides["spool"]["directory"] = NOWHERE
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        async with ready(overrides, metrics, confirm_wait=0.3, retry_after=7) as receiver:
            proxy.to_client.pause()
            for content in (DOCUMENTED, b"{}"):
                answer = await ask(receiver.port, post(content))
                assert is_rejection(answer, "503 Service Unavailable", NEITHER)
                assert answer.headers["retry-after"] == "7"
            proxy.resume()
            await receiver.line.publisher.wait_until_idle()
            assert answered(metrics, "503") == 2
            assert metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": "confirmed"}) == 1
            async with asyncio.timeout(90):
                while not await goes_on(receiver):  # on a busy machine a confirm may take longer than that
                    pass


async def test_more_than_the_window_in_flight_is_503(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """Memory is bounded: what does not fit the window of unconfirmed messages is refused at once."""
    assert rabbit
    overrides["spool"]["directory"] = NOWHERE
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        async with ready(overrides, metrics, max_in_flight=1) as receiver, Wire.to(receiver.port) as wire:
            proxy.to_client.pause()
            wire.send(post(DOCUMENTED))
            await eventually(lambda: receiver.line.publisher.in_flight == 1)
            answer = await ask(receiver.port, post(DOCUMENTED))
            assert is_rejection(answer, "503 Service Unavailable", NEITHER)
            proxy.resume()
            assert (await wire.answer()).json["durability"] == "confirmed"
