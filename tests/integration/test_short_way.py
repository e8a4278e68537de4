"""The short way of a request that comes whole, on real sockets: it shows in nothing but the time it takes."""

from __future__ import annotations

import asyncio
import gc
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import pytest
from structlog.testing import capture_logs

from bridge import events
from bridge.receiver import access, connection, durability
from bridge.receiver.connection import WebhookConnection
from bridge.receiver.handler import Handler
from bridge.settings.loading import load_settings
from bridge.spool import stall, thread
from tests.conftest import OTHER_TOKEN, TOKEN
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, receiving
from tests.support.wire import Wire, ask, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Receiving

pytestmark = pytest.mark.quick

NOWHERE = "/dev/null/spool"
"""No folder can be made there, so the spool takes nothing."""
DATE = re.compile(rb"(?m)^Date: [^\r]+\r$")
PATIENCE_SECONDS = 90
IDLE_SECONDS = 1.0
"""`head_timeout`, where an idle connection is to be ended: more than a busy machine needs between answer and request."""


def body(message_id: int = 1) -> bytes:
    return b'{"message":{"id":%d},"event":{"name":"opened","timestamp":1539062173}}' % message_id


def confirmed(content: bytes) -> dict[str, str]:
    return {"status": "accepted", "id": events.parse(content).id, "durability": "confirmed"}


def answered(metrics: Metrics, answer: str) -> float:
    return metrics.registry.get_sample_value("bridge_answers_total", {"answer": answer}) or 0


@asynccontextmanager
async def ready(overrides: dict[str, Any], metrics: Metrics, **knob: Any) -> AsyncIterator[Receiving]:
    """A receiver with these settings of its section, that has reached RabbitMQ."""
    settings = load_settings(overrides=overrides | {"receiver": overrides["receiver"] | knob})
    async with receiving(settings, metrics, exchange_alone(settings)) as receiver:
        await receiver.line.up()
        yield receiver


class Held:
    """A receiver whose confirms are on the way, until they are let go."""

    def __init__(self, receiver: Receiving, proxy: Proxy) -> None:
        self.port = receiver.port
        self._publisher = receiver.line.publisher
        self._proxy = proxy

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, overrides: dict[str, Any], metrics: Metrics, amqp_url: str, **knob: Any
    ) -> AsyncIterator[Self]:
        async with Proxy.serve(amqp_url) as proxy:
            overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
            async with ready(overrides, metrics, **knob) as receiver:
                proxy.to_client.pause()
                try:
                    yield cls(receiver, proxy)
                finally:
                    proxy.resume()

    async def waiting(self, count: int) -> None:
        """Until so many events wait for their confirm."""
        await eventually(lambda: self._publisher.in_flight == count)

    def let_go(self) -> None:
        self._proxy.resume()

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._publisher.wait_until_idle()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow for a while, as that of a busy machine, is none that hangs, and no error."""
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 60)
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60)
    monkeypatch.setattr(thread, "_ENDING_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
async def held(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, amqp_url: str
) -> AsyncIterator[Held]:
    async with Held.opened(overrides, metrics, amqp_url) as holding:
        yield holding
    del rabbit  # it deletes the exchange, and so it must outlive the receiver


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that went aiohttp's way."""
    paths: list[str] = []
    theirs = Handler.__call__

    async def noted(self: Handler, request: web.BaseRequest) -> web.StreamResponse:
        paths.append(request.rel_url.raw_path_qs)
        return await theirs(self, request)

    monkeypatch.setattr(Handler, "__call__", noted)
    return paths


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> WeakSet[WebhookConnection]:
    """Those of the server that something still holds. Rings do not count as held: Python looks for them seldom."""
    made: WeakSet[WebhookConnection] = WeakSet()

    class Kept(WebhookConnection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.add(self)

    monkeypatch.setattr(connection, "WebhookConnection", Kept)
    return made


async def everything(port: int, request: bytes) -> bytes:
    """All that is written for one request, until the server ends the connection; without the date."""
    async with Wire.to(port) as wire:
        wire.send(request)
        return DATE.sub(b"Date: now\r", await wire.rest())


def queried(request: bytes) -> bytes:
    """The same request, but for a query that nobody asks for: so it goes aiohttp's way."""
    return request.replace(b" HTTP/1.1", b"?long HTTP/1.1", 1)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (body(), b"200 OK"),
        (b"{}", b"200 OK"),
        (b"", b"400 Bad Request"),
        (b"no event", b"400 Bad Request"),
    ],
    ids=["accepted", "quarantined", "empty", "no JSON"],
)
async def test_both_ways_write_the_same_bytes(
    overrides: dict[str, Any],
    metrics: Metrics,
    rabbit: Rabbit,
    long_way: list[str],
    content: bytes,
    status: bytes,
) -> None:
    """Status, headers, their order and spelling, body; and on both the connection is kept, until it has been idle."""
    assert rabbit
    async with ready(overrides, metrics, head_timeout=IDLE_SECONDS) as receiver:
        short = await everything(receiver.port, post(content))
        assert not long_way
        long = await everything(receiver.port, queried(post(content)))
        assert len(long_way) == 1
    assert short == long
    assert short.startswith(b"HTTP/1.1 " + status)
    assert b"Date: now" in short


async def test_both_ways_write_the_same_refusal_and_the_same_spooled_answer(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, long_way: list[str], tmp_path: Any
) -> None:
    """503 with its `Retry-After`, and 200 `spooled`."""
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        overrides["receiver"]["head_timeout"] = IDLE_SECONDS
        for folder, status in ((NOWHERE, b"503 Service Unavailable"), (f"{tmp_path}/spool", b"200 OK")):
            long_way.clear()
            overrides["spool"]["directory"] = folder
            settings = load_settings(overrides=overrides)
            async with receiving(settings, metrics, exchange_alone(settings)) as receiver:
                short = await everything(receiver.port, post(body()))
                assert not long_way
                assert short == await everything(receiver.port, queried(post(body())))
                assert len(long_way) == 1
            assert short.startswith(b"HTTP/1.1 " + status)
    assert (answered(metrics, "503"), answered(metrics, "spooled")) == (2, 2)


async def test_an_unforeseen_failure_is_answered_alike_on_both_ways(
    overrides: dict[str, Any],
    metrics: Metrics,
    rabbit: Rabbit,
    long_way: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 in our shape, which says nothing of the inside and that the connection ends; the log has all of it."""
    assert rabbit

    def broken(*_: object) -> None:
        raise LookupError("a secret of the inside")

    async with ready(overrides, metrics) as receiver:
        monkeypatch.setattr(Handler, "take", broken)
        with capture_logs() as logs:
            short = await everything(receiver.port, post(body()))
            assert not long_way
            long = await everything(receiver.port, queried(post(body())))
            assert len(long_way) == 1
        monkeypatch.undo()
        assert (await ask(receiver.port, post(body()))).json == confirmed(body())
    assert short.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert short.endswith(b'{"status":"refused","reason":"an unforeseen failure; it has been logged"}')
    failures = [line for line in logs if line["log_level"] == "error"]
    assert [line["action"] for line in failures] == ["receiver.failure"] * 2
    assert all(str(line["exc_info"]) == "a secret of the inside" for line in failures)
    assert answered(metrics, "500") == 2
    assert short == long
    assert b"\r\nConnection: close\r\n" in short


async def test_a_wrong_token_after_a_right_one_is_404(held: Held, long_way: list[str]) -> None:
    """Who was admitted once is not admitted with anything else; with another token that is right, he is."""
    held.let_go()
    tried = [
        (TOKEN, "200 OK"),
        (TOKEN + "x", "404 Not Found"),
        (TOKEN[:-1], "404 Not Found"),
        ("", "404 Not Found"),
        (TOKEN, "200 OK"),
        (OTHER_TOKEN, "200 OK"),
        (TOKEN.upper(), "404 Not Found"),
        (OTHER_TOKEN, "200 OK"),
        (TOKEN, "200 OK"),
    ]
    async with Wire.to(held.port) as wire:
        for token, status in tried:
            wire.send(post(body(), token=token))
            assert (await wire.answer()).status_line == f"HTTP/1.1 {status}"
    assert len(long_way) == 4, "those who are admitted go the short way"


async def test_each_request_shows_its_token(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy that shares connections the next request is somebody else's: every one is compared."""
    held.let_go()
    compared = 0

    def compare(one: bytes, other: bytes) -> bool:
        nonlocal compared
        compared += 1
        return one == other

    monkeypatch.setattr(access, "compare_digest", compare)
    async with Wire.to(held.port) as wire:
        for _ in range(3):
            wire.send(post(body()))
            assert (await wire.answer()).json == confirmed(body())
    assert compared == 3 * len((TOKEN, OTHER_TOKEN))


async def test_a_request_that_was_cancelled_takes_no_confirm_from_the_others(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ confirms many at once: that nobody waits for the first any more is no matter of the second's."""
    tasks: list[asyncio.Task[Any]] = []
    theirs = Handler.__call__

    async def noted(self: Handler, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.create_task(theirs(self, request))
        tasks.append(task)
        return await task

    monkeypatch.setattr(Handler, "__call__", noted)
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with Wire.to(held.port) as gone, Wire.to(held.port) as wire:
        gone.send(queried(post(body(1))))
        await held.waiting(1)
        wire.send(post(body(2)))
        await held.waiting(2)
        tasks[0].cancel()
        held.let_go()
        assert (await wire.answer()).json == confirmed(body(2))
        await held.settled()
    assert not failures


@pytest.mark.parametrize("count", [2, 100])
async def test_pipelined_requests_are_answered_in_order_and_once(
    held: Held, metrics: Metrics, count: int
) -> None:
    """Two and many in one packet, while no confirm comes: one answer each, in the order of the questions."""
    bodies = [body(number) for number in range(count)]
    async with Wire.to(held.port) as wire:
        wire.send(*(post(content) for content in bodies))
        await held.waiting(1)
        held.let_go()
        for content in bodies:
            assert (await wire.answer()).json == confirmed(content)
        wire.send(post(body(count)))
        assert (await wire.answer()).json == confirmed(body(count)), "nothing stands between"
    assert answered(metrics, "confirmed") == count + 1


async def test_many_one_after_the_other_leave_room_for_many_at_once(held: Held, long_way: list[str]) -> None:
    """Aiohttp's parser counts what is queued: what went the short way is not, or the connection would stand still."""
    held.let_go()
    async with Wire.to(held.port) as wire:
        for number in range(40):
            wire.send(post(body(number)))
            assert (await wire.answer()).json == confirmed(body(number))
        assert not long_way
        wire.send(post(b"") * 3)  # without a body whose reading would have the parser go on
        for _ in range(3):
            assert (await wire.answer()).status_line == "HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("count", [1, 50])
async def test_requests_that_come_while_one_waits_are_answered_after_it(
    held: Held, metrics: Metrics, long_way: list[str], count: int
) -> None:
    """The first goes the short way and waits for its confirm; those that come meanwhile wait for its answer."""
    async with Wire.to(held.port) as wire:
        wire.send(post(body(0)))
        await held.waiting(1)
        assert not long_way
        wire.send(*(post(body(number)) for number in range(1, count + 1)), post(b"no event"))
        # A request on another connection, sent later and read in a later turn of the loop, has been seen.
        assert (await ask(held.port, post(b"no event"))).status_line == "HTTP/1.1 400 Bad Request"
        assert answered(metrics, "400") == 1
        held.let_go()
        for number in range(count + 1):
            assert (await wire.answer()).json == confirmed(body(number))
        assert (await wire.answer()).status_line == "HTTP/1.1 400 Bad Request"
        wire.send(post(body(99)))
        assert (await wire.answer()).json == confirmed(body(99))
    assert answered(metrics, "confirmed") == count + 2
    assert len(long_way) == count + 1, "and after them the short way is open again"


async def test_a_request_in_two_pieces_that_comes_while_one_waits_is_whole(held: Held) -> None:
    """Head and the beginning of the body before the first has its answer, the rest after it."""
    second = post(body(2))
    async with Wire.to(held.port) as wire:
        wire.send(post(body(1)))
        await held.waiting(1)
        wire.send(second[:-10])
        assert (await ask(held.port, post(b"no event"))).status_line == "HTTP/1.1 400 Bad Request"
        held.let_go()
        assert (await wire.answer()).json == confirmed(body(1))
        wire.send(second[-10:])
        assert (await wire.answer()).json == confirmed(body(2))


async def test_what_is_no_http_after_a_request_that_waits_is_refused_after_its_answer(
    held: Held, metrics: Metrics
) -> None:
    """The event has its answer, the rest its 400, and then the connection ends."""
    async with Wire.to(held.port) as wire:
        wire.send(post(body()))
        await held.waiting(1)
        wire.send(b"hello\r\n\r\n")
        held.let_go()
        assert (await wire.answer()).json == confirmed(body())
        assert (await wire.answer()).status_line.endswith(" 400 Bad Request")
        assert await wire.rest() == b""
    assert answered(metrics, "400") == 1


@pytest.mark.parametrize("leave", [Wire.reset, lambda _: None], ids=["RST", "FIN"])
async def test_a_client_that_goes_while_its_event_waits_leaves_nothing_behind(
    overrides: dict[str, Any],
    metrics: Metrics,
    rabbit: Rabbit,
    amqp_url: str,
    connections: WeakSet[WebhookConnection],
    leave: Callable[[Wire], None],
) -> None:
    """No task, no connection; the event is in RabbitMQ, and nothing is logged as an error."""
    async with Held.opened(overrides, metrics, amqp_url) as held:
        before = asyncio.all_tasks()
        gc.disable()
        try:
            with capture_logs() as logs:
                async with rabbit.listening(rabbit.names.events, "opened") as opened:
                    beside = asyncio.all_tasks()
                    async with Wire.to(held.port) as wire:
                        wire.send(post(body()))
                        await held.waiting(1)
                        assert len(connections) == 1
                        leave(wire)
                    await eventually(lambda: asyncio.all_tasks() <= beside)
                    assert [one.transport for one in connections] == [None]
                    held.let_go()
                    await held.settled()
                    assert (await opened.next()).body == body()
                await eventually(lambda: not connections)
        finally:
            gc.enable()
        await eventually(lambda: asyncio.all_tasks() <= before)
        assert not [line for line in logs if line["log_level"] == "error"]
        assert answered(metrics, "confirmed") == 1, "it was answered, although nobody heard it"
        assert (await ask(held.port, post(body()))).json == confirmed(body())


async def test_connections_that_come_and_go_leave_nothing_behind(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, connections: WeakSet[WebhookConnection]
) -> None:
    """After a short-way answer the client closes: no ring holds what the connection held."""
    assert rabbit
    async with ready(overrides, metrics) as receiver:
        before = asyncio.all_tasks()
        gc.disable()
        try:
            for number in range(5):
                assert (await ask(receiver.port, post(body(number)))).json == confirmed(body(number))
            await eventually(lambda: not connections)
        finally:
            gc.enable()
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_stop_answers_what_waits_for_its_confirm_and_closes(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, amqp_url: str
) -> None:
    """Leaving the server between publish and confirm: the answer comes, the connection ends, an idle one at once."""
    assert rabbit
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with Proxy.serve(amqp_url) as proxy, asyncio.TaskGroup() as tasks:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]

        async def serving() -> None:
            async with ready(overrides, metrics, drain_timeout=PATIENCE_SECONDS) as receiver:
                started.set_result(receiver)
                await stop.wait()

        running = tasks.create_task(serving())
        receiver: Receiving = await started
        async with Wire.to(receiver.port) as wire, Wire.to(receiver.port) as idle:
            idle.send(post(b"no event"))
            assert (await idle.answer()).status_line == "HTTP/1.1 400 Bad Request"
            proxy.to_client.pause()
            wire.send(post(body()))
            await eventually(lambda: receiver.line.publisher.in_flight == 1)
            stop.set()
            assert await idle.rest() == b""
            wire.send(post(body(2)))  # too late; it is not taken, and so it has no answer
            assert not running.done()
            proxy.resume()
            assert (await wire.answer()).json == confirmed(body())
            assert await wire.rest() == b""
        await running
    assert answered(metrics, "confirmed") == 1


async def test_a_stop_does_not_wait_for_ever(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, amqp_url: str
) -> None:
    """What has no confirm within `drain_timeout` gets no answer; what becomes of it afterwards breaks nothing."""
    assert rabbit
    with capture_logs() as logs:
        async with Proxy.serve(amqp_url) as proxy:
            overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
            async with AsyncExitStack() as stack:
                receiver = await stack.enter_async_context(ready(overrides, metrics, drain_timeout=0.2))
                wire = await stack.enter_async_context(Wire.to(receiver.port))
                proxy.to_client.pause()
                wire.send(post(body()))
                await eventually(lambda: receiver.line.publisher.in_flight == 1)
                resting = stack.pop_all()
                await resting.aclose()
    assert not [line for line in logs if line["log_level"] == "error"]


async def test_keep_alive_ends_after_a_short_way_answer(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, long_way: list[str]
) -> None:
    """An idle connection is ended by `head_timeout`, as often as it has been used before."""
    assert rabbit
    async with (
        ready(overrides, metrics, head_timeout=IDLE_SECONDS) as receiver,
        Wire.to(receiver.port) as wire,
    ):
        for number in range(3):
            wire.send(post(body(number)))
            assert (await wire.answer()).json == confirmed(body(number))
        assert await wire.rest() == b""
    assert not long_way


@pytest.mark.parametrize("warm", [False, True], ids=["the first", "a later one"])
async def test_keep_alive_does_not_cut_a_request_that_waits_for_its_confirm(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, amqp_url: str, *, warm: bool
) -> None:
    """It runs out meanwhile, and begins anew with the answer."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        async with (
            ready(overrides, metrics, head_timeout=IDLE_SECONDS) as receiver,
            Wire.to(receiver.port) as wire,
        ):
            if warm:
                wire.send(post(body(0)))
                assert (await wire.answer()).json == confirmed(body(0))
            proxy.to_client.pause()
            wire.send(post(body(1)))
            await eventually(lambda: receiver.line.publisher.in_flight == 1)
            async with Wire.to(receiver.port) as idle:
                assert await idle.rest() == b"", "it came later, and its time is over"
            proxy.resume()
            assert (await wire.answer()).json == confirmed(body(1))
            wire.send(post(body(2)))
            assert (await wire.answer()).json == confirmed(body(2))
            assert await wire.rest() == b""


async def test_a_client_that_is_slow_to_read_is_waited_for(
    overrides: dict[str, Any],
    metrics: Metrics,
    rabbit: Rabbit,
    connections: WeakSet[WebhookConnection],
    long_way: list[str],
) -> None:
    """While its answers pile up, a request goes aiohttp's way, which takes no other one before they are read."""
    assert rabbit
    async with ready(overrides, metrics) as receiver, Wire.to(receiver.port) as wire:
        wire.send(post(body(0)))
        assert (await wire.answer()).json == confirmed(body(0))
        (connection,) = connections
        connection.pause_writing()
        wire.send(post(body(1)))
        await eventually(lambda: len(long_way) == 1)
        wire.send(post(body(2)))
        connection.resume_writing()
        for number in (1, 2):
            assert (await wire.answer()).json == confirmed(body(number))
