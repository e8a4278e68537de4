"""How fast the worker is: a full queue and a warm list, against a loop that takes one message at a time."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import aio_pika
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from bridge import events
from bridge.amqp.properties import decode_properties
from bridge.broker import declaring, topology, topology_plan
from bridge.broker.messages import event_message
from bridge.broker.queue_counts import ready_messages
from bridge.development import private_node
from bridge.development.emission import event_body
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.settings.sources import ENVIRONMENT_PREFIX
from bridge.suppression import model, opening
from bridge.suppression.store import Store
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.bench import usage
from tests.support.postgres import Databases, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from aio_pika.abc import AbstractChannel, AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.suppression.database import Database

    Places = Sequence[tuple[str, Callable[[Path], Awaitable[str]]]]
    """Name of the store -> the URL of a fresh database, for which there is a fresh folder."""

WORKER: Final = "bridge worker"
PLAIN: Final = "bridge worker, plain path"
LOOP: Final = "per-message loop"

EVENTS: Final = {WORKER: 20_000, PLAIN: 20_000, LOOP: 5_000}
"""How many each gets in a round: some seconds of work for either."""
COMMANDS: Final = {
    WORKER: ("bridge", "worker"),
    PLAIN: ("bridge", "worker"),
    LOOP: ("tests.programs.bench.contenders.per_message",),
}
PATHS: Final[Mapping[str, dict[str, str]]] = {PLAIN: {"BRIDGE_DEVELOPMENT__FAST_PATH": "off"}}
SUPPRESSING: Final = (events.HARD_BOUNCED, events.COMPLAINED)

_AT: Final = 1539062173
_AT_ONCE: Final = 500
_LOOK_EVERY_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """Medians over the rounds."""

    name: str
    store: str
    events_per_second: float
    """From the first event on the list to the last; the start is not counted."""
    cpu_us: float
    """Of the process, per event, in that time."""
    ratio: float | None
    """To the per-message loop on the same store in the same round; None for the loop itself."""


class Speed(NamedTuple):
    events_per_second: float
    cpu_us: float


SQLITE: Final = "SQLite"
POSTGRESQL: Final = "PostgreSQL"


@asynccontextmanager
async def every_store(*, settings: str = "") -> AsyncIterator[Places]:
    """Each that the list can be kept in; PostgreSQL is a server of this run's own, fsync included.

    Args:
        settings: further lines of its `postgresql.conf`. Without them it has the 64 MB of shared buffers of the tests.
    """
    async with Server.running(settings=settings) as server:
        databases = Databases(server.url())

        async def in_file(folder: Path) -> str:
            return f"sqlite+aiosqlite:///{folder}/list.sqlite3"

        async def in_database(folder: Path) -> str:
            del folder
            return await databases.fresh()

        yield (SQLITE, in_file), (POSTGRESQL, in_database)


async def measure(
    *,
    rounds: int,
    say: Callable[[str], None],
    numbers: Mapping[str, int] = EVENTS,
) -> list[WorkerRow]:
    """Let each of them empty a queue of the same events, in turn, each time on a fresh list that knows all addresses.

    Args:
        rounds: how often each.
        say: told of each figure as it comes, one line.
        numbers: name of the contender -> how many events it gets.

    Raises:
        NodeError: RabbitMQ cannot be started.
        RuntimeError: a worker ended, or left something undone.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-bench-")))
        node = await stack.enter_async_context(private_node.running_node(folder / "node"))
        connection = await stack.enter_async_context(await aio_pika.connect(node.url))
        rows = []
        for store, url_in in await stack.enter_async_context(every_store()):
            speeds: dict[str, list[Speed]] = {name: [] for name in COMMANDS}
            for number in range(rounds):
                for name, taken in speeds.items():
                    place = folder / re.sub(r"\W+", "-", f"{store}-{name}-{number}")
                    place.mkdir()
                    scene = Scene(node.url, connection, place, await url_in(place), numbers[name])
                    speed = await scene.measured(name)
                    taken.append(speed)
                    say(f"{name}, {store}: {speed.events_per_second:,.0f} events/s, {speed.cpu_us:.0f} us")
            rows += [_row(name, store, speeds) for name in speeds]
        return rows


def _row(name: str, store: str, speeds: Mapping[str, Sequence[Speed]]) -> WorkerRow:
    pairs = zip(speeds[name], speeds[LOOP], strict=True)
    ratio = statistics.median(one.events_per_second / loop.events_per_second for one, loop in pairs)
    return WorkerRow(
        name=name,
        store=store,
        events_per_second=statistics.median(speed.events_per_second for speed in speeds[name]),
        cpu_us=statistics.median(speed.cpu_us for speed in speeds[name]),
        ratio=None if name == LOOP else ratio,
    )


class Scene:
    """One measurement: a queue, a list and processes that nothing else has."""

    def __init__(
        self,
        amqp_url: str,
        connection: AbstractConnection,
        folder: Path,
        database_url: str,
        number: int,
        *,
        processes: int = 1,
    ) -> None:
        self._connection = connection
        self._processes = processes
        self._folder = folder
        self._number = number
        self._database_url = database_url
        self._rabbitmq = load_settings(
            overrides={"rabbitmq": {"urls": [amqp_url], "prefix": f"{folder.name}."}}
        ).rabbitmq
        self._names = topology.Names(self._rabbitmq.prefix)
        self._log = folder / "output.log"

    async def measured(self, name: str) -> Speed:
        await self._prepare()
        async with (
            opening.open_database(self._database_url, create=False) as database,
            AsyncExitStack() as stack,
        ):
            running = [await stack.enter_async_context(self._running(name)) for _ in range(self._processes)]
            async with asyncio.timeout(_PATIENCE_SECONDS):
                speed = await self._timed(database, running)
            for process in running:
                process.send_signal(signal.SIGKILL if name == LOOP else signal.SIGTERM)
                await process.wait()
        await self._nothing_is_left(name)
        return speed

    async def _timed(self, database: Database, running: Sequence[asyncio.subprocess.Process]) -> Speed:
        while (first := await _listed(database)) == 0:
            await self._still_run(running)
        began, used_before = time.perf_counter(), _cpu(running)
        while (last := await _listed(database)) < self._number:
            await self._still_run(running)
        seconds, used = time.perf_counter() - began, _cpu(running) - used_before
        return Speed((last - first) / seconds, used / (last - first) * 1e6)

    async def _still_run(self, running: Sequence[asyncio.subprocess.Process]) -> None:
        for process in running:
            if process.returncode is not None:
                raise RuntimeError(
                    f"it ended with {process.returncode}; see {self._log}:\n{self._log_tail()}"
                )
        await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])

    async def _prepare(self) -> None:
        async with Store.open(self._database_url) as store:
            await store.remember({str(one): f"recipient{one}@example.org" for one in range(self._number)})
        await declaring.declare(self._connection, topology_plan.plan(self._rabbitmq, suppressing=SUPPRESSING))
        async with self._connection.channel() as channel:
            for start in range(0, self._number, _AT_ONCE):
                await publish(channel, self._names.events, range(start, min(start + _AT_ONCE, self._number)))

    @asynccontextmanager
    async def _running(self, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
        with self._log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *COMMANDS[name],
                stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
                env=self._environment() | PATHS.get(name, {}),
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)
        }
        amqp_url = self._rabbitmq.urls[0].get_secret_value()
        return inherited | {
            "BRIDGE_RABBITMQ__URLS": amqp_url,
            "BRIDGE_RABBITMQ__PREFIX": self._rabbitmq.prefix,
            "BRIDGE_PROVIDER__BASE_URL": "http://127.0.0.1:1/v1",
            "BRIDGE_PROVIDER__API_TOKEN": "unused",
            "BRIDGE_SUPPRESSION__DATABASE_URL": self._database_url,
            "BRIDGE_HEALTH__PORT": "0",
            "BRIDGE_LOGS__FORMAT": "json",
            "AMQP_URL": amqp_url,
            "QUEUE": self._names.suppression,
            "DATABASE_URL": self._database_url,
        }

    async def _nothing_is_left(self, name: str) -> None:
        left = await ready_messages(self._connection, self._names.suppression)
        # The loop is ended between the commit that we have seen and its acknowledgement.
        if left is None or left > (1 if name == LOOP else 0):
            raise RuntimeError(
                f"{name} left {left} events in its queue; see {self._log}:\n{self._log_tail()}"
            )
        for queue in topology_plan.plan(self._rabbitmq, suppressing=SUPPRESSING).queues:
            async with self._connection.channel() as channel:
                await channel.queue_delete(queue.name)


def _cpu(running: Iterable[asyncio.subprocess.Process]) -> float:
    return sum(usage.of_tree(process.pid).cpu for process in running)


async def publish(channel: AbstractChannel, exchange: str, numbers: range) -> None:
    """Events as the receiver publishes them, all at once; returns when RabbitMQ has confirmed each.

    Reading the properties is part of a worker's work, so they are the receiver's to the byte.
    """
    underlay = await channel.get_underlay_channel()
    await asyncio.gather(
        *(
            underlay.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=decode_properties(message.properties).to_pamqp(),
            )
            for message in messages(exchange, numbers)
        )
    )


def messages(exchange: str, numbers: range) -> Iterator[Message]:
    """Each of its own message and so for its own address; half bounce, half complain."""
    for number in numbers:
        body = event_body(SUPPRESSING[number % 2], number, _AT, {})
        yield event_message(events.parse(body), body, exchange=exchange, received_at=_AT * 1000)


async def _listed(database: Database) -> int:
    """How many events are on the list: each has written one line of the log, and nothing else has."""
    async with database.read() as connection:
        return int(await connection.scalar(select(func.max(model.changes.c.id))) or 0)


def main(rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 3) -> None:
    """The worker against a loop that takes one message at a time, on the same store.

    Example: python -m tests.programs.bench.working --rounds 3
    """
    logs.configure(sections.Logs(level="error"))
    console = Console(width=110)
    rows = asyncio.run(measure(rounds=rounds, say=lambda line: console.print(line, highlight=False)))
    table = Table("worker", "store", "events/s", "CPU, us/event", "to the loop")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        table.add_row(row.name, row.store, f"{row.events_per_second:,.0f}", f"{row.cpu_us:.0f}", ratio)
    console.print(table)


if __name__ == "__main__":
    program.run(main)
