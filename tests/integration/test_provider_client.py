"""The provider's client against the simulator, over HTTP: every call, every fault, and who is asked how often."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from bridge.development.simulator_api import serve_simulator
from bridge.development.simulator_faults import UNTIL_SWITCHED_OFF
from bridge.provider.client import ProviderMessage, connect
from bridge.provider.errors import (
    MissingTokenError,
    NotHttpError,
    ProviderError,
    ProviderUnavailableError,
    ServerFailureError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.provider.http import MAX_BODY
from bridge.settings.sections import Provider
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bridge.development.simulator import Simulator

pytestmark = pytest.mark.quick

TOKEN = "s3cret-api-token"
ATTEMPTS = 3
CLOSED = "http://127.0.0.1:1/v1"
"""Nothing listens on port 1."""
HOOK = "https://bridge.example.org/webhooks/msndr/a-token-of-ours"

FAULTS: dict[str, dict[str, Any]] = {
    "throttle": {"retry_after": ""},
    "fail": {},
    "reset": {},
    "slow": {"slow_seconds": 60.0},
}


class Time:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class HeldTime(Time):
    """Time that stands still, with sleepers in it, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.sleepers: asyncio.Queue[float] = asyncio.Queue()
        self.passes = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleepers.put_nowait(seconds)
        await self.passes.wait()
        self.now += seconds


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with serve_simulator(token=TOKEN, messages=50) as served:
        yield served


def settings(base_url: str, **changes: Any) -> Provider:
    values: dict[str, Any] = {
        "base_url": base_url,
        "reserve_url": "",
        "api_token": TOKEN,
        "rate": 1000.0,
        "attempts": ATTEMPTS,
        "backoff_max": 0.01,
        **changes,
    }
    return Provider.model_validate(values)


def calls(metrics: Metrics, status: str) -> float | None:
    return metrics.registry.get_sample_value("bridge_provider_calls_total", {"status": status})


@asynccontextmanager
async def provider(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A provider that answers everything in one way; yields its base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_a_message_is_looked_up_by_its_id(simulator: Simulator) -> None:
    """The look-up gives the address and the status, and is counted."""
    metrics = Metrics()
    async with connect(settings(simulator.base_url), metrics) as client:
        assert await client.message("7") == ProviderMessage("7", "recipient7@example.org", "queued")
    assert calls(metrics, "200") == 1
    assert [(asked.method, asked.path) for asked in simulator.requests] == [("GET", "/v1/email/messages/7")]


async def test_the_webhook_is_set_shown_and_turned_off(simulator: Simulator) -> None:
    """The three calls change and show the one URL that the provider has."""
    async with connect(settings(f"{simulator.base_url}/"), Metrics()) as client:
        assert await client.webhook() is None
        assert await client.enable_webhook(HOOK) == HOOK
        assert await client.webhook() == HOOK
        await client.disable_webhook(HOOK)
        assert await client.webhook() is None


async def test_turning_off_what_is_not_set_changes_nothing(simulator: Simulator) -> None:
    """A repeat, or another URL than the one that is set, is no error and leaves the one that is set."""
    async with connect(settings(simulator.base_url), Metrics()) as client:
        await client.disable_webhook(HOOK)
        await client.enable_webhook(HOOK)
        await client.disable_webhook("https://elsewhere.example.org/")
        assert await client.webhook() == HOOK


@pytest.mark.parametrize("status", [200, 204, 404])
async def test_no_webhook_may_be_answered_without_a_body(status: int) -> None:
    """The provider does not document what it answers when none is set: emptiness in any form means none."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        assert await client.webhook() is None


async def test_a_404_to_turning_off_the_webhook_that_is_set_is_an_error() -> None:
    """Who asks at a wrong address is not told that the webhook is off."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"url": HOOK}) if request.method == "GET" else web.Response(status=404)

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError, match="still set"):
            await client.disable_webhook(HOOK)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_passing_fault_is_not_seen_by_the_caller(simulator: Simulator, fault: str) -> None:
    """429, 500, a cut connection and a timeout are each tried again, and the answer comes."""
    setattr(simulator.faults, fault, 1)
    for switch, value in FAULTS[fault].items():
        setattr(simulator.faults, switch, value)
    async with connect(settings(simulator.base_url, timeout=0.5, attempts=10), Metrics()) as client:
        assert (await client.message("1")).to == "recipient1@example.org"
    assert getattr(simulator.faults, fault) == 0


@pytest.mark.parametrize(
    ("fault", "counted"), [("throttle", "429"), ("fail", "5xx"), ("reset", "error"), ("slow", "timeout")]
)
async def test_a_lasting_fault_ends_after_exactly_the_attempts(
    simulator: Simulator, fault: str, counted: str
) -> None:
    """The attempts are bounded, counted by their status, and the caller is told which call failed."""
    setattr(simulator.faults, fault, UNTIL_SWITCHED_OFF)
    for switch, value in FAULTS[fault].items():
        setattr(simulator.faults, switch, value)
    metrics = Metrics()
    patience = 0.2 if fault == "slow" else 20.0
    async with connect(settings(simulator.base_url, timeout=patience), metrics) as client:
        with pytest.raises(ProviderUnavailableError, match="GET /email/messages/1: http://127") as caught:
            await client.message("1")
    assert calls(metrics, counted) == ATTEMPTS
    # At the most: a call may time out before the simulator has seen it.
    assert len(simulator.requests) in ({ATTEMPTS} if fault != "slow" else range(ATTEMPTS + 1))
    assert caught.value.retry_after is None


async def test_retry_after_in_seconds_is_obeyed(simulator: Simulator) -> None:
    """The next attempt comes when as many seconds have passed as a 429 asked for, not before and not later."""
    simulator.faults.throttle = 1
    simulator.faults.retry_after = "7"
    time = Time()
    async with connect(settings(simulator.base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client:
        await client.message("1")
    assert len(simulator.requests) == 2
    assert time.now == pytest.approx(7.0)


async def test_retry_after_as_a_date_is_obeyed_up_to_the_cap(simulator: Simulator) -> None:
    """A date far ahead holds us for `retry_after_max` and no longer."""
    simulator.faults.throttle = 1
    simulator.faults.retry_after = "Fri, 31 Dec 2199 23:59:59 GMT"
    time = Time()
    bounded = settings(simulator.base_url, retry_after_max=20.0)
    async with connect(bounded, Metrics(), sleep=time.sleep, clock=time.clock) as client:
        await client.message("1")
    assert time.now == pytest.approx(20.0)


async def test_retry_after_of_a_503_is_obeyed() -> None:
    """A provider under maintenance says when it will be back, and is asked again then."""
    answers = iter(
        [web.Response(status=503, headers={"Retry-After": "11"}), web.json_response({"url": HOOK})]
    )

    async def answer(_: web.Request) -> web.Response:
        return next(answers)

    time = Time()
    async with (
        provider(answer) as base_url,
        connect(settings(base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client,
    ):
        assert await client.webhook() == HOOK
    assert time.now == pytest.approx(11.0)


async def test_the_last_retry_after_is_handed_on(simulator: Simulator) -> None:
    """When the attempts are used up, the caller learns how long the provider wants to be left alone."""
    simulator.faults.throttle = UNTIL_SWITCHED_OFF
    simulator.faults.retry_after = "9"
    time = Time()
    async with connect(settings(simulator.base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client:
        with pytest.raises(ThrottledError) as caught:
            await client.message("1")
    assert caught.value.retry_after == 9.0
    assert len(simulator.requests) == ATTEMPTS


async def test_one_429_holds_back_every_caller(simulator: Simulator) -> None:
    """While a `Retry-After` runs, a caller who never saw it waits too; both are answered afterwards."""
    simulator.faults.throttle = 1
    simulator.faults.retry_after = "30"
    time = HeldTime()
    async with (
        connect(settings(simulator.base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.message("1"))
        await time.sleepers.get()
        second = group.create_task(client.message("2"))
        assert await time.sleepers.get() == 30.0
        assert len(simulator.requests) == 1
        time.passes.set()
    assert {first.result().to, second.result().to} == {"recipient1@example.org", "recipient2@example.org"}
    assert len(simulator.requests) == 3


async def test_calls_wait_for_the_rate(simulator: Simulator) -> None:
    """At one call in 1,000 seconds the first is made at once, and the second not while others come and go."""
    async with (
        connect(settings(simulator.base_url, rate=0.001), Metrics()) as slow,
        connect(settings(simulator.base_url), Metrics()) as quick,
    ):
        await slow.message("1")
        second = asyncio.create_task(slow.message("2"))
        await quick.message("3")
        await quick.message("4")
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    assert [asked.path.rpartition("/")[2] for asked in simulator.requests] == ["1", "3", "4"]


async def test_many_callers_share_one_client(simulator: Simulator) -> None:
    """Calls at the same time, some of them retried, each get their own answer."""
    simulator.faults.fail = 10
    async with connect(settings(simulator.base_url, attempts=20), Metrics()) as client:
        found = await asyncio.gather(*(client.message(str(number)) for number in range(1, 51)))
    assert [message.to for message in found] == [f"recipient{number}@example.org" for number in range(1, 51)]


async def test_an_unknown_message_is_asked_for_once(simulator: Simulator) -> None:
    """A 404 is an answer: whether the provider only lags is for the worker to decide."""
    metrics = Metrics()
    async with connect(settings(simulator.base_url), metrics) as client:
        with pytest.raises(UnknownMessageError, match="message 404404"):
            await client.message("404404")
    assert len(simulator.requests) == 1
    assert calls(metrics, "404") == 1


async def test_a_message_that_the_provider_shows_late_is_found_later(simulator: Simulator) -> None:
    """With the provider behind its own webhook, the same question is answered once it has caught up."""
    simulator.faults.unknown_lookups = 2
    async with connect(settings(simulator.base_url), Metrics()) as client:
        for _ in range(2):
            with pytest.raises(UnknownMessageError):
                await client.message("1")
        assert (await client.message("1")).to == "recipient1@example.org"


@pytest.mark.parametrize(
    "message_id", ["..", ".", "", "../webhook", "1?x=1", "1/../2", "%2e%2e", "ключ", "\ud800"]
)
async def test_no_message_id_leads_to_another_path(simulator: Simulator, message_id: str) -> None:
    """An id that came in from outside is one segment of the path, whatever is in it."""
    async with connect(settings(simulator.base_url), Metrics()) as client:
        with pytest.raises(UnknownMessageError):
            await client.message(message_id)
    for asked in simulator.requests:
        folder, _, segment = asked.path.rpartition("/")
        assert folder == "/v1/email/messages"
        assert segment not in {"", ".", ".."}


async def test_a_wrong_token_names_the_setting(simulator: Simulator) -> None:
    """401 is told to whoever set the token, once, and without the token."""
    wrong = settings(simulator.base_url, api_token="not-the-token")
    async with connect(wrong, Metrics()) as client:
        with pytest.raises(UnauthorizedError, match="BRIDGE_PROVIDER__API_TOKEN") as caught:
            await client.webhook()
    assert "not-the-token" not in str(caught.value)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("token", [None, "", "  "])
async def test_without_a_token_nothing_is_sent(simulator: Simulator, token: str | None) -> None:
    """A call without a token says which setting is missing, and does not reach the provider."""
    async with connect(settings(simulator.base_url, api_token=token), Metrics()) as client:
        assert not client.has_token
        with pytest.raises(MissingTokenError, match="BRIDGE_PROVIDER__API_TOKEN"):
            await client.message("1")
    assert not simulator.requests


async def test_a_body_that_is_no_json_is_an_error_of_its_own(simulator: Simulator) -> None:
    """A page instead of JSON, as from a wrong address, is said so and not tried again."""
    simulator.faults.garbage = UNTIL_SWITCHED_OFF
    async with connect(settings(simulator.base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError, match="not a JSON object"):
            await client.message("1")
        with pytest.raises(UnexpectedAnswerError, match="not a JSON object"):
            await client.enable_webhook(HOOK)
    assert len(simulator.requests) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        b'{"id": 1, "to": ""}',
        b'{"id": 1, "to": ["a@b.example"]}',
        b"\xff",
    ],
)
async def test_a_message_without_its_id_or_address_is_not_believed(body: bytes) -> None:
    """What lacks an address is no message."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.message("1")


LIBERALLY_READ = {
    "a byte-order mark": b'\xef\xbb\xbf{"id": 1, "to": "jane@example.org"}',
    "UTF-16": '{"id": 1, "to": "jane@example.org"}'.encode("utf-16"),
    "a lone surrogate": b'{"id": 1, "to": "jane@example.org", "subject": "\\ud83d", "html": "\\udc00 x"}',
    "NaN": b'{"size": NaN, "ratio": -Infinity, "id": 1, "to": "jane@example.org"}',
    "bytes that are no text": b'{"id": 1, "to": "jane@example.org", "text": "caf\xe9"}',
    "control characters": b'{"text": "a\tb\nc\x00", "id": 1, "to": "jane@example.org"}',
    "a number of 5000 digits": b'{"n": ' + b"7" * 5000 + b', "id": 1, "to": "jane@example.org"}',
    "a key that comes twice": b'{"id": 1, "to": "jane@example.org", "text": "a", "text": "b"}',
    "something that is no JSON behind": b'{"id": 1, "to": "jane@example.org", "text": undefined}',
    "a nesting without end": b'{"id": 1, "to": "jane@example.org", "x": ' + b"[" * 100_000,
    "more than is read": b'{"id": 1, "to": "jane@example.org", "attachments": ["' + b"x" * MAX_BODY + b'"]}',
    "an id as text": b'{"id": "1", "to": "jane@example.org"}',
    "an id with a decimal point": b'{"id": 1.0, "to": "jane@example.org"}',
}


@pytest.mark.parametrize("what", LIBERALLY_READ)
async def test_what_nobody_asks_for_makes_no_answer_unreadable(what: str) -> None:
    """Id and address are all that counts: the mail's own text may be whatever somebody has put into it."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=LIBERALLY_READ[what])

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        assert await client.message("1") == ProviderMessage("1", "jane@example.org", None)


async def test_an_id_of_many_digits_counts_with_all_of_them() -> None:
    """Two that are the same as floating-point numbers are two."""
    number = 12345678901234567890123

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=f'{{"id": {number}, "to": "jane@example.org"}}')

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        assert (await client.message(str(number))).to == "jane@example.org"
        with pytest.raises(UnexpectedAnswerError):
            await client.message(str(number + 1))


@pytest.mark.parametrize("name", [b"J\xfcrgen", b"\\ud83d", b"\\ufffd"])
async def test_a_damaged_name_in_front_does_not_matter(name: bytes) -> None:
    """The mailbox in brackets came through whole; what is kept of the name can be stored."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"id": 1, "to": "' + name + b' <jane@example.org>"}')

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        to = (await client.message("1")).to
    assert to.removeprefix("J").replace("rgen", "") == "\ufffd <jane@example.org>"


@pytest.mark.parametrize(
    "to",
    [
        b"\\ud800@example.org",
        b"caf\xe9@example.org",
        b"\\ufffd@example.org",
        b"Jane <caf\xe9@example.org>",
        b"Jane <jane@example.org>, caf\xe9@example.org",
    ],
)
async def test_an_address_that_did_not_come_through_whole_is_not_believed(to: bytes) -> None:
    """What was put in the place of a byte that could not be read is nobody's address."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"id": 1, "to": "' + to + b'"}')

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.message("1")


async def test_an_answer_that_breaks_off_is_the_servers_failure() -> None:
    """It has begun to answer: that is something else than a server that is not there."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"id": 1,')
        assert request.transport is not None
        request.transport.close()
        return response

    async with provider(answer) as base_url, connect(settings(base_url, attempts=1), Metrics()) as client:
        with pytest.raises(ServerFailureError, match="broke off"):
            await client.message("1")


async def test_a_5xx_of_either_address_is_the_servers_failure(simulator: Simulator) -> None:
    """And so is not taken for a server that is not there."""
    simulator.faults.fail = UNTIL_SWITCHED_OFF
    for both in (
        settings(CLOSED, reserve_url=simulator.base_url, attempts=1),
        settings(simulator.base_url, reserve_url=CLOSED, attempts=1),
    ):
        async with connect(both, Metrics()) as client:
            with pytest.raises(ServerFailureError):
                await client.message("1")


async def test_retry_after_of_a_503_holds_back_nobody_else() -> None:
    """It may be due to what was asked for: another caller is answered meanwhile."""
    refused = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/1"):
            refused.set()
            return web.Response(status=503, headers={"Retry-After": "3600"})
        return web.json_response({"id": 2, "to": "jane@example.org"})

    time = HeldTime()
    async with (
        provider(answer) as base_url,
        connect(settings(base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client,
    ):
        first = asyncio.create_task(client.message("1"))
        assert await time.sleepers.get() == 60.0  # provider.retry_after_max
        assert refused.is_set()
        assert (await client.message("2")).to == "jane@example.org"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_the_address_of_another_message_is_not_believed() -> None:
    """Nobody is suppressed because an answer was mixed up; the error does not show the address."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"id": 2, "to": "jane@example.org"})

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError) as caught:
            await client.message("1")
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 400, 418, 422])
async def test_any_other_status_is_reported_with_a_bounded_excerpt(status: int) -> None:
    """A status that we do not know is not retried, and its body appears as one short line; nobody is redirected."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, text="no\n\n\tgood " * 10_000, headers={"Location": "/elsewhere"})

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError, match=f"answered {status}: no good no good") as caught:
            await client.message("1")
    assert len(str(caught.value)) < 400
    assert asked == ["/v1/email/messages/1"]


@pytest.mark.parametrize("status", [401, 403, 418, 429, 500, 503])
async def test_a_server_that_writes_the_token_back_does_not_get_it_into_an_error(status: int) -> None:
    """The API token is in no part of an exception that could be logged."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"you sent {request.headers['Authorization']}")

    async with provider(answer) as base_url, connect(settings(base_url), Metrics()) as client:
        with pytest.raises(ProviderError) as caught:
            await client.message("1")
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


async def test_an_answer_that_is_no_http_is_an_error_without_the_token() -> None:
    """Another protocol behind the address is said so; aiohttp's exception, which holds our headers, is left out."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with connect(settings(base_url), Metrics()) as client:
            with pytest.raises(NotHttpError, match="does not speak HTTP") as caught:
                await client.message("1")
    assert caught.value.__cause__ is None
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


async def test_an_endless_error_is_not_read_to_its_end() -> None:
    """A server that never stops talking does not hold the client up, nor fill its memory."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=418)
        await response.prepare(request)
        while True:
            await response.write(b"and another thing, " * 100)

    async with provider(answer) as base_url, connect(settings(base_url, timeout=5.0), Metrics()) as client:
        with pytest.raises(UnexpectedAnswerError, match="and another thing"):
            await client.message("1")


async def test_the_reserve_is_asked_when_the_base_cannot_be_reached(simulator: Simulator) -> None:
    """With the base down, the first attempt already gets its answer from the reserve."""
    one = settings(CLOSED, reserve_url=simulator.base_url, attempts=1)
    metrics = Metrics()
    async with connect(one, metrics) as client:
        assert (await client.message("1")).to == "recipient1@example.org"
    assert (calls(metrics, "error"), calls(metrics, "200")) == (1, 1)


async def test_the_reserve_is_asked_when_the_base_answers_5xx(simulator: Simulator) -> None:
    """A base that is broken is passed over at once, without a wait."""
    time = Time()
    async with serve_simulator(token=TOKEN) as base:
        base.faults.fail = UNTIL_SWITCHED_OFF
        both = settings(base.base_url, reserve_url=simulator.base_url)
        async with connect(both, Metrics(), sleep=time.sleep, clock=time.clock) as client:
            assert (await client.message("1")).to == "recipient1@example.org"
        assert len(base.requests) == 1
    assert time.now == 0.0


async def test_the_reserve_is_not_asked_when_the_base_has_answered(simulator: Simulator) -> None:
    """404, 401 and 429 are the provider's answers: the reserve would only be burdened with them too."""
    async with serve_simulator(token=TOKEN) as base:
        both = settings(base.base_url, reserve_url=simulator.base_url)
        async with connect(both, Metrics()) as client:
            with pytest.raises(UnknownMessageError):
                await client.message("1")
            base.faults.unauthorized = 1
            with pytest.raises(UnauthorizedError):
                await client.message("1")
            base.faults.throttle = UNTIL_SWITCHED_OFF
            base.faults.retry_after = ""
            with pytest.raises(ThrottledError):
                await client.message("1")
    assert not simulator.requests


async def test_with_both_down_each_attempt_asks_both_and_the_error_names_both(simulator: Simulator) -> None:
    """Who reads the error learns of both addresses what is wrong with them."""
    simulator.faults.fail = UNTIL_SWITCHED_OFF
    both = settings(CLOSED, reserve_url=simulator.base_url)
    async with connect(both, Metrics()) as client:
        with pytest.raises(ProviderUnavailableError, match=r"127\.0\.0\.1:1 cannot be reached.*answered 500"):
            await client.message("1")
    assert len(simulator.requests) == ATTEMPTS


@pytest.mark.parametrize("retry_after", ["", "30"])
async def test_cancelling_a_wait_ends_the_call_at_once(simulator: Simulator, retry_after: str) -> None:
    """A worker that stops is not held by a backoff or a `Retry-After`, and nothing more is asked."""
    simulator.faults.throttle = UNTIL_SWITCHED_OFF
    simulator.faults.retry_after = retry_after
    time = HeldTime()
    async with connect(settings(simulator.base_url), Metrics(), sleep=time.sleep, clock=time.clock) as client:
        call = asyncio.create_task(client.message("1"))
        await time.sleepers.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(simulator.requests) == 1


async def test_cancelling_a_call_in_flight_ends_it_at_once() -> None:
    """Cancellation is neither retried nor taken for a lost connection."""
    arrived = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return web.Response()

    metrics = Metrics()
    async with provider(answer) as base_url, connect(settings(base_url), metrics) as client:
        call = asyncio.create_task(client.message("1"))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert calls(metrics, "error") is None
