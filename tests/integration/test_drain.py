"""From the spool to RabbitMQ: in order, removed only after the confirm, and from whoever left it behind."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest
from aio_pika import Message as AioMessage
from pamqp import commands as spec
from yarl import URL

from bridge.amqp import backoff
from bridge.amqp.message_types import make_message
from bridge.amqp.publish_errors import LostError
from bridge.broker import declaring, topology_plan
from bridge.receiver.access import Access
from bridge.roles.publishing import publishing
from bridge.roles.receiver import open_parts
from bridge.settings.loading import load_settings
from bridge.spool import orphans, stall, thread
from bridge.spool.drain_publisher import CHUNK, DrainPublisher
from bridge.spool.entries import SpoolEntry
from bridge.spool.known_refusals import EveryPublishRefusedError
from bridge.spool.listing import read_contents
from bridge.spool.mover import Mover
from bridge.spool.orphans import drain_file
from bridge.spool.set_aside_entries import Refusal, to_read_set_aside, to_set_aside
from bridge.spool.spool_file import SpoolFile
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics
from tests.conftest import TOKEN
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import Declared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.settings.sections import Settings
    from bridge.spool.drain import Drain
    from bridge.spool.spool import Spool
    from tests.support.node import Control
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Listener, Rabbit

Overrides = dict[str, dict[str, Any]]

COUNT = 3 * CHUNK + 7


def body(number: int, name: str = "opened") -> bytes:
    return orjson.dumps({"message": {"id": number}, "event": {"name": name, "timestamp": 1_539_062_173}})


def subjects(arrived: list[Any]) -> list[int]:
    return [int(message.headers["cloudEvents:subject"]) for message in arrived]


@dataclass(frozen=True, slots=True)
class Parts:
    live: Publisher
    """What webhooks are published with, on a connection of its own."""
    drain_publisher: DrainPublisher
    spool: Spool
    mover: Mover
    drain: Drain
    """Its `run` is the test's to call."""
    metrics: Metrics

    @property
    def publisher(self) -> Publisher:
        """The drain's."""
        return self.drain_publisher.publisher

    async def put(self, *bodies: bytes, held: bool = False) -> list[SpoolEntry]:
        return await asyncio.gather(*(self.spool.put(1, one, held=held) for one in bodies))

    async def emptied(self, left: int = 0) -> None:
        """Until no more than so many are left."""
        await eventually(lambda: self.spool.state.entries <= left)


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of the receiver's role, without its server; its connection is open. A slow disk is waited for."""
    metrics = Metrics()

    async def declare(connection: AbstractConnection) -> None:
        await declaring.apply_all(connection, topology_plan.plan(settings.rabbitmq, suppressing=()), "always")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stall, "STALLED_SECONDS", 60.0)
        patched.setattr(thread, "_OPENING_SECONDS", 20.0)
        patched.setattr(orphans, "_CLOSE_SECONDS", 20.0)
        async with (
            open_parts(settings, Access([TOKEN]), metrics) as parts,
            publishing(parts.link, parts.publisher, Declared(declare), keep_trying=True),
        ):
            await parts.link.up.wait()
            yield Parts(
                parts.publisher, parts.drain_publisher, parts.spool, parts.mover, parts.drain, metrics
            )


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.serve(amqp_url) as served:
        yield served


@pytest.fixture
async def parts(overrides: Overrides, proxy: Proxy, amqp_url: str) -> AsyncIterator[Parts]:
    overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
    overrides["rabbitmq"]["reconnect_max"] = 0.1
    async with wired(load_settings(overrides=overrides)) as together:
        yield together


@pytest.fixture
async def opened(rabbit: Rabbit, parts: Parts) -> AsyncIterator[Listener]:
    """What arrives under `opened`; the exchange stands once the parts are connected."""
    del parts
    async with rabbit.listening(rabbit.names.events, "opened") as listening:
        yield listening


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def left_behind(folder: Path, number: int, bodies: list[bytes]) -> Path:
    """The file of a process that is gone."""
    folder.mkdir(exist_ok=True)
    file = SpoolFile(folder / f"spool-{number}.sqlite3", min_free_bytes=0)
    file.write([SpoolEntry(at, at, one) for at, one in enumerate(bodies, 1)], ())
    file.close()
    return file.path


def set_aside_now(parts: Parts) -> dict[tuple[str, str], int]:
    """Reason and routing key -> how many, as health shows it."""
    return {(one.reason, one.routing_key): one.entries for one in parts.spool.set_aside_kinds}


def nacked(parts: Parts) -> float:
    return parts.metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": "nacked"}) or 0


def connects(parts: Parts) -> float:
    return parts.metrics.registry.get_sample_value("bridge_broker_connects_total", {"use": "publish"}) or 0


@asynccontextmanager
async def full(rabbit: Rabbit, key: str) -> AsyncIterator[AbstractQueue]:
    """A queue that takes one message, which it has, and rejects more."""
    async with rabbit.channel() as channel:
        limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(exclusive=True, arguments=limits)
        await channel.default_exchange.publish(AioMessage(b"the first"), queue.name)
        await queue.bind(rabbit.names.events, key)
        yield queue


async def forbid(overrides: Overrides, control: Control, user: str, **rights: Any) -> None:
    """The settings become those of a user with these rights."""
    await control.add_user(user, "secret", configure=".*", **rights)
    (url,) = overrides["rabbitmq"]["urls"]
    overrides["rabbitmq"]["urls"] = [str(URL(url).with_user(user).with_password("secret"))]


async def test_the_oldest_goes_first(parts: Parts, opened: Listener) -> None:
    """Over many chunks the order of arrival is kept, and nothing is left."""
    await parts.put(*(body(number) for number in range(COUNT)))
    async with background_task(parts.drain.run(), name="drain"):
        assert subjects(await opened.take(COUNT)) == list(range(COUNT))
        await parts.emptied()
    assert opened.waiting == 0


async def test_what_is_put_while_it_drains_follows(parts: Parts, opened: Listener) -> None:
    """The drain is woken by each new entry; nobody has to wait for its next look."""
    async with background_task(parts.drain.run(), name="drain"):
        for number in range(3):
            await parts.put(body(number))
            assert subjects([await opened.next()]) == [number]
        await parts.emptied()


async def test_an_entry_is_removed_only_after_its_confirm(
    parts: Parts, opened: Listener, proxy: Proxy
) -> None:
    """While the confirms are held up the entries are on the disk, though they have arrived."""
    await parts.put(*(body(number) for number in range(50)))
    await parts.drain_publisher.ready()
    proxy.to_client.pause()
    async with background_task(parts.drain.run(), name="drain"):
        await opened.take(50)
        assert read_contents(parts.spool.paths[0]).entries == 50
        proxy.to_client.resume()
        await parts.emptied()
        assert read_contents(parts.spool.paths[0]).entries == 0


async def test_a_connection_that_is_lost_while_it_drains_loses_nothing(
    parts: Parts, opened: Listener, proxy: Proxy
) -> None:
    """What was not confirmed is published again; whoever reads it knows it by its id."""
    await parts.put(*(body(number) for number in range(COUNT)))
    await parts.drain_publisher.ready()
    proxy.to_client.pause()
    async with background_task(parts.drain.run(), name="drain"):
        first = await opened.take(CHUNK)
        assert read_contents(parts.spool.paths[0]).entries == COUNT
        proxy.cut()
        proxy.to_client.resume()
        await parts.emptied()
        again = await opened.take(COUNT)
    assert subjects(again) == list(range(COUNT))
    assert [one.message_id for one in again[:CHUNK]] == [one.message_id for one in first]


async def test_held_entries_are_left_alone_until_they_are_released(parts: Parts, opened: Listener) -> None:
    """A confirm may still come for them; those around them go."""
    held = (await parts.put(body(1), body(2), held=True))[1]
    await parts.put(body(3), body(4))
    async with background_task(parts.drain.run(), name="drain"):
        assert subjects(await opened.take(2)) == [3, 4]
        await parts.emptied(left=2)
        parts.spool.release(held)
        assert subjects([await opened.next()]) == [2]
        await parts.emptied(left=1)


async def test_an_entry_that_rabbitmq_refuses_stays_and_the_others_go(
    parts: Parts, rabbit: Rabbit, opened: Listener
) -> None:
    """A full queue that rejects publishes holds up only what is routed to it, and that goes once there is room."""
    others = list(range(10, 15 + CHUNK))
    async with rabbit.channel() as channel:
        limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = await channel.declare_queue(exclusive=True, arguments=limits)
        await full.bind(rabbit.names.events, "clicked")
        await parts.put(*(body(number, "clicked") for number in (1, 2, 3)), *map(body, others))
        assert await parts.mover.move_all(parts.spool) == len(others) + 1
        assert subjects(await opened.take(len(others))) == others
        assert parts.spool.state.entries == 2
        async with background_task(parts.drain.run(), name="drain"):
            arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await full.consume(arrivals.put, no_ack=True)
            async with asyncio.timeout(90):
                arrived = [await arrivals.get() for _ in range(3)]
            await parts.emptied()
    assert sorted(subjects(arrived)) == [1, 2, 3]


async def test_what_is_nacked_waits_for_its_next_attempt(
    parts: Parts, rabbit: Rabbit, opened: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not published with every look: the queues that took it would get one copy after the other."""
    # The third attempt is far away, also on a slow machine.
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 3.0)
    async with full(rabbit, "clicked") as queue, rabbit.listening(rabbit.names.events, "clicked") as innocent:
        await parts.put(*(body(number, "clicked") for number in range(20)))
        async with background_task(parts.drain.run(), name="drain"):
            await innocent.take(20)
            await eventually(lambda: set_aside_now(parts) == {("nacked", "clicked"): 20})
            await parts.put(*map(body, range(5)))
            assert subjects(await opened.take(5)) == list(range(5))
            attempts = nacked(parts)
            await parts.put(*map(body, range(5, 10)))
            await opened.take(5)
            assert nacked(parts) - attempts <= 1
            assert innocent.waiting <= 2, "one of them stands for all"
            await queue.unbind(rabbit.names.events, "clicked")
            await parts.emptied()


async def test_a_channel_that_goes_on_being_nacked_is_left(
    parts: Parts, rabbit: Rabbit, opened: Listener
) -> None:
    """Each attempt has a channel of its own, and hears the truth (rabbitmq-server#12206)."""
    async with full(rabbit, "clicked"):
        await parts.put(body(1, "clicked"), body(2, "clicked"))
        async with background_task(parts.drain.run(), name="drain"):
            await eventually(lambda: set_aside_now(parts) == {("nacked", "clicked"): 2})
            before = parts.publisher._channels.current
            await eventually(lambda: parts.publisher._channels.current is not before)
    del opened


async def test_an_event_that_rabbitmq_refuses_is_found_and_set_aside(
    overrides: Overrides, rabbit: Rabbit, control: Control, prefix: str
) -> None:
    """Forbidden names among others: each is found, kept with RabbitMQ's words, and everything else goes, in order."""
    await forbid(overrides, control, prefix, topics={rabbit.names.events: "^(?!(newname|another)$).*$"})
    async with wired(load_settings(overrides=overrides)) as parts:
        async with rabbit.listening(rabbit.names.events, "opened") as opened:
            names = {7: "newname", 100: "another", 101: "newname", CHUNK + 1: "newname"}
            await parts.put(*(body(number, names.get(number, "opened")) for number in range(2 * CHUNK)))
            async with background_task(parts.drain.run(), name="drain"):
                good = [number for number in range(2 * CHUNK) if number not in names]
                await parts.emptied(left=len(names))
                arrived: set[int] = set()
                while arrived != set(good):  # those that were in flight with a culprit came twice
                    arrived.update(subjects([await opened.next()]))
                await eventually(
                    lambda: set_aside_now(parts) == {("forbidden", "newname"): 3, ("forbidden", "another"): 1}
                )
                assert "access to topic" in parts.spool.set_aside_kinds[0].reply_text
                async with rabbit.listening(rabbit.names.events, "newname", "another") as allowed:
                    await control.set_topic_permissions(prefix, rabbit.names.events, ".*")
                    assert sorted(subjects(await allowed.take(len(names)))) == sorted(names)
                await parts.emptied()
        assert connects(parts) == 1, "the connection has nothing to do with it"


async def test_a_culprit_that_rabbitmq_does_not_name_is_found(parts: Parts, rabbit: Rabbit) -> None:
    """Whatever the channel is closed for: the others of its chunk go, and it is kept under what RabbitMQ said."""

    def strange(entry: SpoolEntry) -> Message:
        properties = spec.Basic.Properties(
            message_id=str(entry.id), user_id="somebody" if entry.body in {b"13", b"77"} else None
        )
        return make_message(rabbit.names.events, "opened", properties, entry.body)

    mover = Mover(replace(parts.drain_publisher, compose=strange))
    async with rabbit.listening(rabbit.names.events, "opened") as opened:
        await parts.put(*(b"%d" % number for number in range(CHUNK)))
        assert await mover.move_all(parts.spool) == CHUNK - 2
        await opened.take(CHUNK - 2)
    (seen,) = await parts.spool.run_task(to_read_set_aside())
    assert (seen.reason, seen.routing_key, seen.entries) == ("refused", "406", 2)
    assert "user_id" in seen.reply_text


async def test_a_broker_that_refuses_everything_has_no_culprit(
    overrides: Overrides, rabbit: Rabbit, control: Control, prefix: str
) -> None:
    """There is no right to write: nothing is set aside, all of it waits in its order, and goes when it may."""
    await forbid(overrides, control, prefix, write=f"^(?!{rabbit.names.events}$).*$")
    async with (
        wired(load_settings(overrides=overrides)) as parts,
        rabbit.listening(rabbit.names.events, "opened") as opened,
    ):
        await parts.put(*map(body, range(50)))
        with pytest.raises(EveryPublishRefusedError, match="access to exchange"):
            await parts.mover.move_all(parts.spool)
        assert await parts.spool.run_task(to_read_set_aside()) == ()
        assert "access to exchange" in parts.publisher.last_close_reason
        await control.set_permissions(prefix)
        async with background_task(parts.drain.run(), name="drain"):
            assert subjects(await opened.take(50)) == list(range(50))
            await parts.emptied()


async def test_what_was_set_aside_in_a_file_left_behind_is_taken_over(
    parts: Parts, opened: Listener, folder: Path
) -> None:
    """With the time of its next attempt; the file goes with the last of it."""
    path = left_behind(folder, 1, [body(number) for number in range(3)])
    with closing(SpoolFile(path, min_free_bytes=0)) as file:
        file.run_task(to_set_aside(Refusal("forbidden", "opened", "once"), (2,)))
    async with background_task(parts.drain.run(), name="drain"):
        assert sorted(subjects(await opened.take(3))) == [0, 1, 2]
        await eventually(lambda: not path.exists())


async def test_a_body_that_the_disk_has_spoilt_goes_to_the_quarantine(
    parts: Parts, opened: Listener, rabbit: Rabbit
) -> None:
    """One that is no JSON any more does not hold up the rest, and is not thrown away."""
    async with rabbit.listening(rabbit.names.events, "malformed") as malformed:
        await parts.put(b"\x00\xff spoilt", body(1))
        async with background_task(parts.drain.run(), name="drain"):
            assert (await malformed.next()).body == b"\x00\xff spoilt"
            assert subjects([await opened.next()]) == [1]


async def test_a_small_window_is_waited_for(overrides: Overrides, rabbit: Rabbit) -> None:
    """As `spool drain` has it: more entries than may be in flight at once are all moved, in order and in one go."""
    overrides["receiver"]["max_in_flight"] = 7
    async with wired(load_settings(overrides=overrides)) as parts:
        mover = Mover(DrainPublisher(parts.live, parts.drain_publisher.compose))
        await parts.put(*(body(number) for number in range(50)))
        async with rabbit.listening(rabbit.names.events, "opened") as opened:
            assert await mover.move_all(parts.spool) == 50
            assert subjects(await opened.take(50)) == list(range(50))
            assert parts.spool.state.entries == 0


async def test_a_file_left_behind_is_emptied_and_removed(
    parts: Parts, opened: Listener, folder: Path
) -> None:
    """Whoever drains the folder adopts it, without touching the own file."""
    path = left_behind(folder, 1, [body(number) for number in range(COUNT)])
    async with background_task(parts.drain.run(), name="drain"):
        assert subjects(await opened.take(COUNT)) == list(range(COUNT))
        await eventually(lambda: not path.exists())
    assert [file.name for file in left_files(folder)] == ["spool-0.sqlite3"]


async def test_a_file_left_behind_does_not_hold_up_the_own(
    parts: Parts, opened: Listener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it is, or slow to read: what is in the own spool goes meanwhile, and the rest of it afterwards."""
    path = left_behind(folder, 1, [body(number) for number in range(COUNT)])
    began, goes_on, theirs = threading.Event(), threading.Event(), SpoolFile.read

    def slowly(self: SpoolFile, *arguments: Any, **options: Any) -> Any:
        if self.path == path:
            began.set()
            goes_on.wait(20)
        return theirs(self, *arguments, **options)

    monkeypatch.setattr(SpoolFile, "read", slowly)
    async with background_task(parts.drain.run(), name="drain"):
        try:
            await asyncio.to_thread(began.wait, 20)
            await parts.put(body(COUNT))
            assert subjects([await opened.next()]) == [COUNT]
        finally:
            goes_on.set()
        assert subjects(await opened.take(COUNT)) == list(range(COUNT))
        await eventually(lambda: not path.exists())


async def test_a_file_that_cannot_be_opened_does_not_hold_up_the_others(
    parts: Parts, opened: Listener, folder: Path
) -> None:
    """It stands where it is; what is left behind after it is drained."""
    stuck(folder, 1)
    left_behind(folder, 2, [body(7)])
    async with background_task(parts.drain.run(), name="drain"):
        assert subjects([await opened.next()]) == [7]


async def test_a_corrupt_file_left_behind_is_set_aside(parts: Parts, opened: Listener, folder: Path) -> None:
    """The drain goes on with the next one."""
    garbage = b"garbage!" * 2000
    left_behind(folder, 1, [body(6)]).write_bytes(garbage)
    left_behind(folder, 2, [body(7)])
    async with background_task(parts.drain.run(), name="drain"):
        assert subjects([await opened.next()]) == [7]
    [kept] = set_aside(folder)
    assert kept.read_bytes() == garbage


async def test_a_file_that_refuses_removals_is_published_once(
    parts: Parts, opened: Listener, folder: Path
) -> None:
    """On a full disk nothing can be removed; what is in RabbitMQ is not published over and over."""
    path = left_behind(folder, 1, [body(number) for number in range(3)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER refusal BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    assert await drain_file(path, parts.mover) == 3
    assert subjects(await opened.take(3)) == [0, 1, 2]
    assert opened.waiting == 0
    assert path not in left_files(folder), "all of it is in RabbitMQ"


async def test_a_file_is_kept_when_the_connection_is_lost(
    parts: Parts, opened: Listener, proxy: Proxy, folder: Path
) -> None:
    """With everything that was not confirmed, for the next attempt."""
    path = left_behind(folder, 1, [body(number) for number in range(3)])
    await parts.drain_publisher.ready()
    proxy.to_client.pause()
    emptying = asyncio.ensure_future(drain_file(path, parts.mover))
    await opened.take(3)
    proxy.cut()
    with pytest.raises(LostError):
        await emptying
    assert read_contents(path).entries == 3
    proxy.to_client.resume()


async def test_a_file_that_a_process_has_is_left_to_it(parts: Parts, folder: Path) -> None:
    """None says that it is somebody's."""
    path = left_behind(folder, 1, [body(1)])
    owner = SpoolFile(path, min_free_bytes=0)
    assert await drain_file(path, parts.mover) is None
    owner.close()
    assert read_contents(path).entries == 1


async def test_the_spools_of_killed_receivers_are_drained_by_the_next(
    overrides: Overrides, processes: Processes, proxy: Proxy, amqp_url: str, rabbit: Rabbit, folder: Path
) -> None:
    """Two receivers on one folder are killed while RabbitMQ is away; the next one brings every event they answered."""
    overrides["rabbitmq"] |= {"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1}
    receivers = [await processes.start("receiver", overrides=overrides) for _ in range(2)]
    ports = [await _port(receiver) for receiver in receivers]
    for receiver in receivers:
        await receiver.says("broker.connected")
    proxy.refuse()
    for receiver in receivers:
        await receiver.says("broker.retry")
    spooled = set(await _all_posted(ports))
    assert {read_contents(file).entries for file in left_files(folder)} == {20}
    for receiver in receivers:
        receiver.send(signal.SIGKILL)
        await receiver.ended()
    proxy.accept()
    async with rabbit.listening(rabbit.names.events, "opened") as opened:
        third = await processes.start("receiver", overrides=overrides)
        arrived = [str(message.message_id) for message in await opened.take(40)]
        adopted = await third.says("spool.orphan_drained")
        assert (adopted["file"], adopted["entries"]) == (str(folder / "spool-1.sqlite3"), 20)
        await third.says("spool.drained", entries=20)
        assert (set(arrived), len(arrived)) == (spooled, 40)
        assert opened.waiting == 0
    assert [(file.name, read_contents(file).entries) for file in left_files(folder)] == [
        ("spool-0.sqlite3", 0)
    ]


async def test_two_receivers_on_one_folder_drain_each_their_own(
    overrides: Overrides, processes: Processes, proxy: Proxy, amqp_url: str, rabbit: Rabbit
) -> None:
    """Neither takes the other's file while it lives: each event arrives once."""
    overrides["rabbitmq"] |= {"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1}
    receivers = [await processes.start("receiver", overrides=overrides) for _ in range(2)]
    ports = [await _port(receiver) for receiver in receivers]
    for receiver in receivers:
        await receiver.says("broker.connected")
    proxy.refuse()
    for receiver in receivers:
        await receiver.says("broker.retry")
    async with rabbit.listening(rabbit.names.events, "opened") as opened:
        spooled = await _all_posted(ports)
        proxy.accept()
        arrived = [str(message.message_id) for message in await opened.take(40)]
        for receiver in receivers:
            assert (await receiver.says("spool.drained"))["entries"] == 20
            receiver.send(signal.SIGTERM)
            assert await receiver.ended() == 0
        assert sorted(arrived) == sorted(spooled)
        assert opened.waiting == 0


def left_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("spool-*.sqlite3"))


def set_aside(folder: Path) -> list[Path]:
    return list(folder.glob("spool-*.corrupt-*[0-9]"))


def stuck(folder: Path, number: int) -> None:
    (folder / f"spool-{number}.sqlite3").mkdir()


async def _port(receiver: Process) -> int:
    return int((await receiver.says("receiver.started"))["port"])


async def _all_posted(ports: list[int]) -> list[str]:
    """The ids of 40 events, 20 for each receiver; all at once, since any fsync may take longer than a receiver waits."""
    async with aiohttp.ClientSession() as http:
        return await asyncio.gather(*(_posted(http, ports[number % 2], body(number)) for number in range(40)))


async def _posted(http: aiohttp.ClientSession, port: int, event: bytes) -> str:
    """The id of an event that was answered `spooled`."""
    async with http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", data=event) as answer:
        answered = await answer.json()
    assert (answer.status, answered["durability"]) == (200, "spooled")
    return str(answered["id"])
