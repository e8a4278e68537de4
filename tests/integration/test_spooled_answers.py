"""What a POST is answered while RabbitMQ is away, silent or full, and what becomes of the event."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika
import aiohttp
import orjson
import pytest
from structlog.testing import capture_logs

from bridge.amqp.connection import Link, LinkState
from bridge.amqp.publisher import Publisher
from bridge.broker import declaring, topology, topology_plan
from bridge.broker.messages import message_from_body
from bridge.broker.topology_refusals import TopologyRefusals
from bridge.receiver import durability, readiness, server
from bridge.receiver.access import Access
from bridge.receiver.handler import Handler
from bridge.settings.loading import load_settings
from bridge.spool import stall
from bridge.spool.drain import Drain
from bridge.spool.drain_publisher import DrainPublisher
from bridge.spool.errors import SpoolError
from bridge.spool.known_refusals import KnownRefusals
from bridge.spool.mover import Mover
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics
from tests.conftest import TOKEN
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.rabbit import Rabbit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from bridge.settings.sections import Settings
    from tests.support.managed import Managed

Overrides = dict[str, dict[str, Any]]

BODY = b'{"message": {"id": 1}, "event": {"name": "opened", "timestamp": 1539062173}}'
ANOTHER = b'{"message": {"id": 2}, "event": {"name": "opened", "timestamp": 1539062174}}'
NO_EVENT = b'{"message": {"id": 1}}'


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver's parts, wired as its role wires them, so that a test can look at each."""

    link: Link
    publisher: Publisher
    spool: Spool
    known_refusals: KnownRefusals
    port: int
    http: aiohttp.ClientSession

    async def post(self, body: bytes) -> Answer:
        url = f"http://127.0.0.1:{self.port}/webhooks/msndr/{TOKEN}"
        async with self.http.post(url, data=body) as answer:
            return Answer(answer.status, dict(answer.headers), orjson.loads(await answer.read()))

    async def unusable(self) -> None:
        """Until the publisher has noticed that RabbitMQ is away or silent."""
        await eventually(lambda: not self.publisher.usable)

    async def drained(self) -> None:
        """Until nothing waits in the spool."""
        await eventually(lambda: self.spool.state.entries == 0)


@asynccontextmanager
async def receiving(
    settings: Settings, *, patience: float | None = None, draining: bool = False
) -> AsyncIterator[Receiver]:
    """A receiver on these settings; it may be connected or not when this begins."""
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = Publisher(
        link, max_in_flight=100, stalled_after=patience or settings.receiver.confirm_wait, metrics=metrics
    )
    exchange = topology.Names(settings.rabbitmq.prefix).events

    async def session(connection: AbstractConnection) -> None:
        await declaring.apply_all(connection, topology_plan.plan(settings.rabbitmq, suppressing=()), "always")
        await publisher.session(connection)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(90))
        spool = await stack.enter_async_context(Spool.open(settings.spool))
        known_refusals = KnownRefusals()
        handler = Handler(
            settings=settings.receiver,
            access=Access([TOKEN]),
            publisher=publisher,
            spool=spool,
            known_refusals=known_refusals,
            exchange=exchange,
            metrics=metrics,
        )
        await stack.enter_async_context(background_task(link.run(session), name="publish"))
        if draining:
            mover = Mover(
                DrainPublisher(
                    publisher,
                    lambda entry: message_from_body(
                        entry.body, exchange=exchange, received_at=entry.received_at
                    ),
                    known_refusals,
                )
            )
            drain = Drain(settings.spool, spool=spool, mover=mover, usable=lambda: publisher.usable)
            await stack.enter_async_context(background_task(drain.run(), name="drain"))
        port = await stack.enter_async_context(server.serve(settings.receiver, handler))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Receiver(link, publisher, spool, known_refusals, port, http)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow for a while, as that of a busy machine, is none that hangs."""
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 60)
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60)


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.serve(amqp_url) as served:
        yield served


@pytest.fixture
def through_proxy(overrides: Overrides, proxy: Proxy, amqp_url: str) -> Overrides:
    overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
    overrides["rabbitmq"]["reconnect_max"] = 0.1
    overrides["receiver"]["confirm_wait"] = 0.2
    return overrides


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def no_folder(folder: Path) -> None:
    """A regular file stands in the folder's place."""
    folder.write_bytes(b"")


def on_disk(folder: Path) -> list[bytes]:
    """The bodies that any process would find in this folder now."""
    found: list[bytes] = []
    for file in sorted(folder.glob("spool-*.sqlite3")):
        with closing(sqlite3.connect(file)) as connection:
            found += [body for (body,) in connection.execute("SELECT body FROM entries ORDER BY id")]
    return found


async def test_with_rabbitmq_down_an_event_is_answered_200_from_the_spool(
    through_proxy: Overrides, proxy: Proxy, folder: Path
) -> None:
    """The answer says so, and the provider's bytes are on the disk before it."""
    proxy.refuse()
    async with receiving(load_settings(overrides=through_proxy)) as receiver:
        answer = await receiver.post(BODY)
        assert on_disk(folder) == [BODY]
        assert answer.status == 200
        assert (answer.body["status"], answer.body["durability"]) == ("accepted", "spooled")
        await receiver.post(ANOTHER)
        assert on_disk(folder) == [BODY, ANOTHER]


async def test_with_rabbitmq_down_a_quarantined_body_is_spooled_as_well(
    through_proxy: Overrides, proxy: Proxy, folder: Path
) -> None:
    """What we do not understand we keep, whatever the broker does."""
    proxy.refuse()
    async with receiving(load_settings(overrides=through_proxy)) as receiver:
        answer = await receiver.post(NO_EVENT)
        assert (answer.status, answer.body["status"]) == (200, "quarantined")
        assert on_disk(folder) == [NO_EVENT]


async def test_what_is_not_json_is_refused_whatever_the_broker_does(
    through_proxy: Overrides, proxy: Proxy, folder: Path
) -> None:
    """It takes no place in the spool."""
    proxy.refuse()
    async with receiving(load_settings(overrides=through_proxy)) as receiver:
        assert (await receiver.post(b"no json")).status == 400
        assert on_disk(folder) == []


@pytest.mark.usefixtures("no_folder")
async def test_with_neither_place_the_answer_is_503_and_when_to_come_again(
    through_proxy: Overrides, proxy: Proxy
) -> None:
    """Never a 200; and when RabbitMQ is back, the same process answers `confirmed`."""
    through_proxy["receiver"] |= {"retry_after": 7, "confirm_wait": 10}
    proxy.refuse()
    async with receiving(load_settings(overrides=through_proxy)) as receiver:
        for body in (BODY, NO_EVENT):
            answer = await receiver.post(body)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
            assert answer.body["status"] == "refused"
        proxy.accept()
        await receiver.link.up.wait()
        assert (await receiver.post(BODY)).body["durability"] == "confirmed"


async def test_a_disk_that_hangs_is_answered_503_and_logged(
    through_proxy: Overrides, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever came first waits a second, nobody after that; readiness and metrics say so, until the disk answers."""
    monkeypatch.undo()  # here the disk hangs
    proxy.refuse()
    settings, metrics = load_settings(overrides=through_proxy), Metrics()
    refusals = TopologyRefusals(topology_plan.plan(settings.rabbitmq, suppressing=()), metrics)
    async with receiving(settings) as receiver:
        readiness.export_spool_metrics(receiver.spool, receiver.known_refusals.unconfirmed, metrics)
        answers, write = threading.Event(), SpoolFile.write
        monkeypatch.setattr(SpoolFile, "write", lambda *these: answers.wait() and write(*these))
        try:
            assert (await receiver.post(BODY)).status == 503
            await eventually(lambda: not receiver.spool.state.writable)
            assert (await receiver.post(ANOTHER)).status == 503
            assert receiver.spool._waiting == 1, "what came after it was refused, and waits for nothing"
            said = readiness.receiver_readiness(
                receiver.link, receiver.spool, refusals, str, dict, receiver.known_refusals.unconfirmed
            )
            assert not said.ready
            assert "the disk has not answered" in str(said.parts["spool"])
            assert b"\nbridge_spool_refusing 1.0\n" in metrics.exposition()
        finally:
            answers.set()
        await eventually(lambda: receiver.spool.state.writable)
        assert (await receiver.post(ANOTHER)).body["durability"] == "spooled"
        assert b"\nbridge_spool_refusing 0.0\n" in metrics.exposition()


async def test_a_full_spool_is_answered_503(through_proxy: Overrides, proxy: Proxy, folder: Path) -> None:
    """Below the minimum of free disk no event is taken; the log says so at once, with the reason."""
    through_proxy["spool"]["min_free_bytes"] = 2**60
    proxy.refuse()
    with capture_logs() as logged:
        async with receiving(load_settings(overrides=through_proxy)) as receiver:
            for _ in range(3):
                assert (await receiver.post(BODY)).status == 503
            assert on_disk(folder) == []
    (said,) = [line for line in logged if line.get("action") == "receiver.rejecting"]
    assert "spool.min_free_bytes" in said["reason"]


async def test_a_confirm_that_is_slow_is_not_waited_for_and_not_published_twice(
    through_proxy: Overrides, proxy: Proxy, rabbit: Rabbit, folder: Path
) -> None:
    """The answer is `spooled`; the late confirm takes the entry away, and the event arrives once."""
    async with receiving(load_settings(overrides=through_proxy), patience=3600, draining=True) as receiver:
        await receiver.link.up.wait()
        async with rabbit.listening(rabbit.names.events, "opened") as opened:
            proxy.to_client.pause()
            for body in (BODY, ANOTHER):
                answer = await receiver.post(body)
                assert (answer.status, answer.body["durability"]) == (200, "spooled")
                assert (await opened.next()).body == body, (
                    "it is in RabbitMQ, and only the confirm is missing"
                )
            assert receiver.publisher.usable, "so the drain looks at what is in the spool"
            assert on_disk(folder) == [BODY, ANOTHER]
            proxy.to_client.resume()
            await receiver.publisher.wait_until_idle()
            await receiver.spool.read(0, 1)  # the removal was asked for before
            assert on_disk(folder) == []
            await receiver.post(_event(3))  # confirmed, or on a busy machine too late for that
            assert (await opened.next()).body == _event(3), "nothing came in between"
            assert opened.waiting == 0


async def test_a_late_confirm_counts_when_the_disk_fails(
    through_proxy: Overrides, proxy: Proxy, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confirm was too late, the spool's disk fails after it came: RabbitMQ has the event, so the answer is 200."""
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 3600)
    fails = threading.Event()

    def fail(*_: object) -> None:
        fails.wait()
        raise SpoolError("the disk fails")

    async with receiving(load_settings(overrides=through_proxy), patience=3600) as receiver:
        await receiver.link.up.wait()
        monkeypatch.setattr(SpoolFile, "write", fail)
        try:
            async with rabbit.listening(rabbit.names.events, "opened") as opened:
                proxy.to_client.pause()
                answering = asyncio.create_task(receiver.post(BODY))
                await eventually(lambda: receiver.spool._waiting == 1)
                proxy.to_client.resume()
                await receiver.publisher.wait_until_idle()
                fails.set()
                answer = await answering
                assert (answer.status, answer.body["durability"]) == (200, "confirmed")
                assert (await opened.next()).body == BODY
        finally:
            fails.set()


async def test_an_event_whose_confirm_never_comes_is_published_from_the_spool(
    through_proxy: Overrides, proxy: Proxy, rabbit: Rabbit, folder: Path
) -> None:
    """The connection is cut before anything reached RabbitMQ; the next one brings the event."""
    async with receiving(load_settings(overrides=through_proxy), draining=True) as receiver:
        await receiver.link.up.wait()
        async with rabbit.listening(rabbit.names.events, "opened") as opened:
            proxy.pause()
            answer = await receiver.post(BODY)
            assert answer.body["durability"] == "spooled"
            assert on_disk(folder) == [BODY]
            proxy.cut()
            proxy.resume()
            arrived = await opened.next()
            assert (arrived.body, arrived.message_id) == (BODY, answer.body["id"])
            await receiver.drained()
            assert on_disk(folder) == []


async def test_a_broker_that_is_known_to_be_silent_is_not_waited_for(
    through_proxy: Overrides, proxy: Proxy, folder: Path
) -> None:
    """While one event waits for its confirm too long, the others are spooled at once and not published."""
    through_proxy["receiver"]["confirm_wait"] = 3600
    async with receiving(load_settings(overrides=through_proxy), patience=0.1) as receiver:
        await receiver.link.up.wait()
        proxy.pause()
        waiting = asyncio.create_task(receiver.post(BODY))
        await receiver.unusable()
        answer = await receiver.post(ANOTHER)
        assert answer.body["durability"] == "spooled"
        assert on_disk(folder) == [ANOTHER]
        assert receiver.publisher.in_flight == 1, "only the first was published"
        assert not waiting.done(), "nothing has come through the proxy"
        proxy.resume()
        assert (await waiting).body["durability"] == "confirmed"
        assert (await receiver.post(ANOTHER)).body["durability"] == "confirmed"


async def test_a_broker_that_was_never_there_is_not_waited_for(
    through_proxy: Overrides, proxy: Proxy
) -> None:
    """Nothing is published, so there is no confirm to wait for."""
    through_proxy["receiver"]["confirm_wait"] = 3600
    proxy.pause()
    async with receiving(load_settings(overrides=through_proxy)) as receiver:
        answers = await asyncio.gather(*(receiver.post(BODY) for _ in range(50)))
        assert {answer.body["durability"] for answer in answers} == {"spooled"}
        assert receiver.publisher.in_flight == 0
        assert receiver.link.state is LinkState.DOWN


async def test_a_message_from_the_spool_is_the_one_that_would_have_been_published(
    through_proxy: Overrides, proxy: Proxy, rabbit: Rabbit
) -> None:
    """Properties, headers and bytes are those of a direct publish; `received-at` is when it was posted."""
    through_proxy["receiver"]["confirm_wait"] = 10
    body = b'{"message": {"id": 1}, "event": {"name": "complined", "timestamp": 1539062173, "data": null}}'
    async with receiving(load_settings(overrides=through_proxy), draining=True) as receiver:
        await receiver.link.up.wait()
        async with rabbit.listening(rabbit.names.events, "#") as everything:
            assert (await receiver.post(body)).body["durability"] == "confirmed"
            assert (await receiver.post(NO_EVENT)).body["status"] == "quarantined"
            direct = await everything.take(2)
            proxy.refuse()
            before = _milliseconds()
            await receiver.unusable()
            assert (await receiver.post(body)).body["durability"] == "spooled"
            assert (await receiver.post(NO_EVENT)).body["status"] == "quarantined"
            after = _milliseconds()
            proxy.accept()
            spooled = await everything.take(2)
    for one, other in zip(direct, spooled, strict=True):
        assert _said(one) == _said(other)
        assert before <= int(str(other.headers["received-at"])) <= after
    no_event = spooled[1]
    assert no_event.timestamp is not None
    assert int(no_event.timestamp.timestamp()) == int(str(no_event.headers["received-at"])) // 1000


async def test_a_blocked_connection_is_not_waited_for_and_nothing_is_lost(
    overrides: Overrides, alarmed: Managed
) -> None:
    """Under RabbitMQ's memory alarm events are spooled unpublished; when it clears, all are there once."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await aio_pika.connect(alarmed.url))
        rabbit = Rabbit(connection, overrides["rabbitmq"]["prefix"])
        overrides["rabbitmq"]["urls"] = [alarmed.url]
        overrides["receiver"]["confirm_wait"] = 0.1
        receiver = await stack.enter_async_context(
            receiving(load_settings(overrides=overrides), draining=True)
        )
        await receiver.link.up.wait()
        opened = await stack.enter_async_context(rabbit.listening(rabbit.names.events, "opened"))
        await alarmed.control.set_memory_limit(0.00001)
        posted: list[str] = []
        while receiver.link.state is LinkState.UP:
            posted.append((await receiver.post(_event(len(posted)))).body["id"])
        published = receiver.publisher.in_flight
        for _ in range(20):
            answer = await receiver.post(_event(len(posted)))
            assert answer.body["durability"] == "spooled"
            posted.append(answer.body["id"])
        assert receiver.link.state is LinkState.BLOCKED
        assert "memory" in receiver.link.reason
        # A late confirm may still come of what RabbitMQ had before it blocked.
        assert receiver.publisher.in_flight <= published, "nothing more was published"
        await alarmed.control.set_memory_limit(0.6)
        await receiver.link.up.wait()
        await receiver.publisher.wait_until_idle()
        await receiver.post(_event(len(posted)))  # confirmed, or on a busy machine too late for that
        await receiver.drained()
        arrived = [str(message.message_id) for message in await opened.take(len(posted) + 1)]
        assert len(set(arrived)) == len(arrived)
        assert set(posted) < set(arrived)


def _event(number: int) -> bytes:
    return orjson.dumps({"message": {"id": number}, "event": {"name": "opened", "timestamp": number}})


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _said(message: AbstractIncomingMessage) -> dict[str, Any]:
    """All that a consumer sees, but when it was received, which is also the time of what is no event."""
    properties = dict(message.properties)
    if message.routing_key == "malformed":
        del properties["timestamp"]
    headers = {name: value for name, value in message.headers.items() if name != "received-at"}
    return properties | {"headers": headers, "body": message.body, "key": message.routing_key}


async def test_an_event_of_a_name_that_rabbitmq_does_not_confirm_is_spooled_at_once(
    overrides: Overrides, rabbit: Rabbit
) -> None:
    """It would hold up all others, and come to the other queues twice. Events of other names are confirmed."""
    async with receiving(load_settings(overrides=overrides)) as receiver:
        await receiver.link.up.wait()
        unconfirmed = receiver.known_refusals.unconfirmed
        unconfirmed.note(confirmed=(), lost=["opened"])
        assert "unconfirmed" not in _broker_part(receiver), "it may have been the connection alone"
        unconfirmed.note(confirmed=(), lost=["opened"])
        assert _broker_part(receiver)["unconfirmed"] == ["opened"]
        async with rabbit.listening(rabbit.names.events, "opened", "clicked") as both:
            held = await receiver.post(BODY)
            other = await receiver.post(BODY.replace(b"opened", b"clicked"))
            assert (held.body["durability"], other.body["durability"]) == ("spooled", "confirmed")
            assert (await both.next()).routing_key == "clicked"
            assert both.waiting == 0


def _broker_part(receiver: Receiver) -> Mapping[str, Any]:
    """Of what `/readyz` says."""
    refusals = TopologyRefusals(topology.Topology((), (), ()), Metrics())
    said = readiness.receiver_readiness(
        receiver.link, receiver.spool, refusals, str, dict, receiver.known_refusals.unconfirmed
    )
    assert said.ready
    return said.parts["broker"]
