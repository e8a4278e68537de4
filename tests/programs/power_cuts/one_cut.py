"""One power cut: load, the cut, everything back; then the history says what was kept, and the archive what it has lost."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aio_pika.exceptions import AMQPError
from sqlalchemy.exc import SQLAlchemyError

from bridge.amqp.connection import open_connection
from bridge.amqp.properties import decode_properties
from bridge.broker import archive
from bridge.broker.queue_counts import ready_messages
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.tasks import background_task
from tests.programs.power_cuts.machine import ADDRESSES, AUDIT, CHANGES, TOKEN, running
from tests.support.disk.lost import Lost
from tests.support.history.checker import check
from tests.support.history.consuming import Consumer
from tests.support.history.history import History
from tests.support.history.list_reading import reading_list
from tests.support.history.mail import mails
from tests.support.history.posting import Poster
from tests.support.history.records import OK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.power_cuts.machine import Machine
    from tests.support.history.list_reading import ListReader
    from tests.support.history.recorder import Recorder

_CONNECTIONS: Final = 300
"""While RabbitMQ is silent each answer takes a quarter of a second."""
_SILENT_SECONDS: Final = 0.7
"""So long before some of the cuts RabbitMQ falls silent, so that there are spooled answers to lose."""
_STREAM_SECONDS: Final = 20.0
_SETTLED_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 0.5
_AWAY: Final = (AMQPError, OSError, TimeoutError, SQLAlchemyError, aiohttp.ClientError)


@dataclass(slots=True)
class Row:
    """What came of a cut."""

    seed: int
    database: str
    confirmed: int = 0
    """Events that were answered 200 `confirmed` before it."""
    spooled: int = 0
    answered_rate: float = 0.0
    """Of both, a second, until the cut."""
    lost_of_quorum: int = 0
    """Of the confirmed, those that never came out of a quorum queue."""
    lost_of_spool: int = 0
    lost_of_stream: int | None = None
    """Of the confirmed, those that the stream does not have; None: it cannot be read any more."""
    lost: Lost = field(default_factory=Lost)
    """Of the disks."""
    back_seconds: float = 0.0
    """From the power until the receiver and the worker work."""
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def one_cut(folder: Path, *, seed: int, database: str, rate: float) -> Row:
    """Cut the power once.

    Args:
        folder: empty.
        seed: of the moment, and of what the disks lose.
        database: of the list.
        rate: events a second.
    """
    row = Row(seed, database)
    chance = random.Random(seed)  # noqa: S311 -- to be repeated
    file = folder / "history.jsonl"
    async with running(folder, seed=seed, database=database) as machine:
        with History.open(file) as recorder:
            # From now on, as the history says: what is answered 200 has to come out of its queue, whenever that is read.
            audit = Consumer([machine.node.url], recorder, events={AUDIT: ("#",)})
            changes = Consumer([machine.node.url], recorder, changes=[CHANGES])
            loaded = time.monotonic()
            await _under_load(machine, recorder, rate, chance.uniform(1.5, 3.0), silent=seed % 2 == 1)
            loaded = time.monotonic() - loaded
            recorder.flush()
            answered = _answered(file)
            row.answered_rate = len(answered) / loaded
            row.confirmed = sum(durability == "confirmed" for durability in answered.values())
            row.spooled = sum(durability == "spooled" for durability in answered.values())
            row.lost = await machine.lose_power()
            began = time.monotonic()
            await machine.come_back()
            confirmed = {one for one, durability in answered.items() if durability == "confirmed"}
            row.lost_of_stream = await _lost_of_stream(machine, confirmed)
            async with AsyncExitStack() as stack:
                for consumer in (audit, changes):
                    await stack.enter_async_context(background_task(consumer.run(), name="consumer"))
                reader = await stack.enter_async_context(reading_list(machine.database_url, recorder))
                await machine.start_roles()
                row.back_seconds = time.monotonic() - began
                row.violations = await _settled(machine, recorder, reader, file)
                missing = {one: what for one, what in answered.items() if one not in audit.event_ids}
                row.lost_of_quorum = sum(what == "confirmed" for what in missing.values())
                row.lost_of_spool = sum(what == "spooled" for what in missing.values())
    return row


async def _under_load(
    machine: Machine, recorder: Recorder, rate: float, seconds: float, *, silent: bool
) -> None:
    posted = mails(addresses=ADDRESSES)
    poster = Poster(
        [machine.port], WEBHOOK_PATH + TOKEN, posted, recorder, rate=rate, connections=_CONNECTIONS
    )
    async with background_task(poster.run(), name="poster"):
        await asyncio.sleep(seconds)
        if silent:
            machine.node.signal(signal.SIGSTOP)
            await asyncio.sleep(_SILENT_SECONDS)


def _answered(history: Path) -> dict[str, str]:
    """Id of each event that was answered 200 -> durability."""
    return {
        post.ended.event_id: post.ended.durability
        for post in History.read(history).posts
        if post.ended is not None and post.ended.result == OK
    }


async def _lost_of_stream(machine: Machine, confirmed: set[str]) -> int | None:
    """Before anything is published again. A node that has just started does not know its streams yet."""
    until = time.monotonic() + _STREAM_SECONDS
    while True:
        try:
            return len(confirmed - await _in_stream(machine))
        except _AWAY:
            if time.monotonic() > until:
                break
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    # The confirm of an event waits for it, too: away with it, and the roles declare it again.
    async with await open_connection(machine.node.url, name="power cuts") as connection:
        channel = await connection.channel()
        with suppress(AMQPError):
            await channel.queue_delete(machine.names.archive)
    return None


async def _in_stream(machine: Machine) -> set[str]:
    """The ids of the events that it has."""
    there = set()
    async with (
        asyncio.timeout(_STREAM_SECONDS),
        await open_connection(machine.node.url, name="power cuts") as connection,
        aclosing(archive.read_archive(connection, machine.names.archive)) as found,
    ):
        async for events in found:
            there |= {decode_properties(event.properties).message_id or "" for event in events}
    return there


async def _settled(machine: Machine, recorder: Recorder, reader: ListReader, file: Path) -> list[str]:
    """What is still wrong when there was time for everything."""
    began = time.monotonic()
    while True:
        try:
            await _finish(machine, recorder, reader)
            found = [str(one) for one in await asyncio.to_thread(lambda: check(History.read(file)))]
        except _AWAY as error:
            found = [f"the end cannot be looked at: {error!r}"]
        if not found or time.monotonic() - began > _SETTLED_SECONDS:
            return found
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _finish(machine: Machine, recorder: Recorder, reader: ListReader) -> None:
    """Write down what there is at the end."""
    await reader.finish()
    recorder.left("spool", [f"{count} events"] if (count := await machine.spooled()) else [])
    async with await open_connection(machine.node.url, name="power cuts") as connection:
        counts = {name: await ready_messages(connection, name) for name in machine.own_queues}
        dead = await ready_messages(connection, machine.names.dead)
    recorder.left("queue", [f"{name}: {count}" for name, count in counts.items() if count])
    recorder.left("dead letters", [f"{dead} messages"] if dead else [])
    recorder.flush()
