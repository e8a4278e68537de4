"""`python -m tests.programs.faults.isolation`: something bad beside good traffic, and what the good traffic feels of it."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aio_pika
import aiohttp
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.amqp.connection import Link
from bridge.amqp.publish_errors import PublishError
from bridge.amqp.publisher import Publisher
from bridge.broker.topology import Names
from bridge.settings.sections import Logs, RabbitMQ
from bridge.tasks import background_task
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics
from tests.programs import program
from tests.programs.faults.scene import Cast, set_up
from tests.programs.faults.spoilers import ALL, CRM, Bad, Case, webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from tests.programs.faults.scene import Scene

console = Console(width=150)

OTHERS: Final = "others"
"""The queue of a service that nothing is wrong with."""
MOST_SECONDS: Final = 1.0
"""What something bad may cost anybody else."""
GOOD_RATE: Final = 100.0
BAD_RATE: Final = 10.0
ALONE_SECONDS: Final = 5.0
BESIDE_SECONDS: Final = 20.0
_CASE_SECONDS: Final = 400.0
_ARRIVAL_SECONDS: Final = 60.0
"""What has not arrived so long after the last of it was posted counts as having taken as long as this."""
_BOUNCES: Final = 5
"""One good event in so many is a hard bounce."""
_NAMES: Final = Names()
_NUMBERS: Final = itertools.count(1)


@dataclass(slots=True)
class Felt:
    """How long the good events took, in seconds."""

    answer: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    """From the POST to the other service's queue."""
    listed: list[float] = field(default_factory=list)
    """Of a hard bounce: from the POST to the published change of the list."""
    copies: int = 0
    """The most copies of one event, a bad one perhaps, in the other service's queue."""
    refused: int = 0
    """Good events that were not answered 200."""

    @property
    def worst(self) -> tuple[float, float, float]:
        return max(self.answer, default=0.0), max(self.queue, default=0.0), max(self.listed, default=0.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was bad, and what the others felt, alone and beside it."""

    bad: str
    count: int
    """How many bad ones there were."""
    alone: Felt
    beside: Felt

    @property
    def cost(self) -> float:
        """Seconds by which the worst good event was later than the worst one alone."""
        return max(beside - alone for alone, beside in zip(self.alone.worst, self.beside.worst, strict=True))

    @property
    def good(self) -> bool:
        return self.cost <= MOST_SECONDS and self.beside.refused == 0


class Arrivals:
    """When events arrive in the other service's queue, and when their changes of the list are published."""

    def __init__(self) -> None:
        self.queued: dict[str, list[float]] = {}
        self.listed: dict[str, float] = {}
        self._grew = asyncio.Event()

    @asynccontextmanager
    async def heard(self, url: str) -> AsyncIterator[None]:
        async with await aio_pika.connect_robust(url, reconnect_interval=0.2) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=500)
            others = await channel.get_queue(OTHERS)
            changes = await channel.declare_queue("changes-heard", arguments={"x-expires": 600_000})
            await changes.bind(_NAMES.changes, "#")
            await others.consume(self._queued)
            await changes.consume(self._listed)
            yield

    async def have(self, ids: Iterable[str], arrived: dict[str, Any]) -> None:
        """Wait until all of these have arrived, for a good while."""
        missing = set(ids)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVAL_SECONDS):
                while missing := missing - arrived.keys():
                    self._grew.clear()
                    await self._grew.wait()

    async def _queued(self, message: AbstractIncomingMessage) -> None:
        self.queued.setdefault(message.message_id or "", []).append(time.monotonic())
        self._grew.set()
        await message.ack()

    async def _listed(self, message: AbstractIncomingMessage) -> None:
        self.listed.setdefault(orjson.loads(message.body)["event_id"], time.monotonic())
        self._grew.set()
        await message.ack()


async def run(case: Case) -> Row:
    """One case in a scene of its own: good events alone, then beside the bad."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-isolation-"))
        cast = Cast(subscribers={CRM: ["unsubscribed"], OTHERS: ["opened", "hard_bounced", "unsubscribed"]})
        scene = await stack.enter_async_context(set_up(Path(directory), cast, rate=1.0, events=1))
        await scene.receivers[0].says("broker.connected")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        publisher = await stack.enter_async_context(_publishing(scene.node.url))
        arrivals = Arrivals()
        await stack.enter_async_context(arrivals.heard(scene.node.url))
        await case.before(scene)
        alone = await _felt(scene, arrivals, http, ALONE_SECONDS)
        bad = Bad(scene, http, publisher)
        async with background_task(_spoil(bad, case), name="bad") as spoiling:
            beside = await _felt(scene, arrivals, http, BESIDE_SECONDS)
            if spoiling.done():
                spoiling.result()
        return Row(case.what, bad.count, alone, beside)


@asynccontextmanager
async def _publishing(url: str) -> AsyncIterator[Publisher]:
    """A publisher that takes properties as they are encoded, whatever they say."""
    metrics = Metrics()
    link = Link(RabbitMQ(urls=[url]), use="bad", metrics=metrics)
    publisher = Publisher(link, max_in_flight=100, stalled_after=1.0, metrics=metrics)
    async with background_task(link.run(publisher.session), name="publisher"):
        await link.up.wait()
        yield publisher


async def _spoil(bad: Bad, case: Case) -> None:
    await case.first(bad.scene)
    while True:
        with suppress(aiohttp.ClientError, PublishError):
            await case.spoil(bad)
        await asyncio.sleep(1 / BAD_RATE)


async def _felt(scene: Scene, arrivals: Arrivals, http: aiohttp.ClientSession, seconds: float) -> Felt:
    """Post good events for so long, and wait until they have arrived."""
    felt, posted = Felt(), {}
    bounces: set[str] = set()

    async def post(number: int, name: str) -> None:
        body = orjson.dumps({"message": {"id": number}, "event": {"name": name, "timestamp": 1_700_000_000}})
        began = time.monotonic()
        async with http.post(webhook(scene), data=body) as answer:
            said = orjson.loads(await answer.read())
        felt.answer.append(time.monotonic() - began)
        if answer.status != HTTPStatus.OK:
            felt.refused += 1
            return
        posted[said["id"]] = began
        if name == "hard_bounced":
            bounces.add(said["id"])

    began = time.monotonic()
    async with asyncio.TaskGroup() as posts:
        for turn in range(round(seconds * GOOD_RATE)):
            await asyncio.sleep(max(0.0, began + turn / GOOD_RATE - time.monotonic()))
            name = "hard_bounced" if turn % _BOUNCES == 0 else "opened"
            posts.create_task(post(next(_NUMBERS), name))
    await arrivals.have(posted, arrivals.queued)
    await arrivals.have(bounces, arrivals.listed)
    never = time.monotonic()
    felt.queue = [arrivals.queued.get(one, [never])[0] - at for one, at in posted.items()]
    felt.listed = [arrivals.listed.get(one, never) - posted[one] for one in bounces]
    felt.copies = max(map(len, arrivals.queued.values()), default=0)
    return felt


COLUMNS: Final = (
    "what was bad", "how many", "worst answer", "worst to a queue", "worst to the list", "copies", "cost", "",
)  # fmt: skip


def main(
    only: Annotated[str, typer.Option(help="Cases whose name contains this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,  # noqa: FBT002 -- a flag of the command line
    write: Annotated[Path | None, typer.Option(help="Write the table to this file, as Markdown.")] = None,
) -> None:
    """Measure each case on a broker and roles of its own; exit code 1 where something bad cost others a second.

    Example: python -m tests.programs.faults.isolation --only look-up
    """
    logs.configure(Logs(level="error"))
    rows = asyncio.run(_run([case for case in ALL if only.lower() in case.what.lower()]))
    if as_json:
        sys.stdout.write(orjson.dumps([asdict(row) for row in rows], option=orjson.OPT_INDENT_2).decode())
    else:
        console.print(_table(rows))
    if write is not None:
        write.write_text(_markdown(rows))
    if not all(row.good for row in rows):
        raise typer.Exit(1)


async def _run(cases: Sequence[Case]) -> list[Row]:
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, width=150)) as progress:
        bar = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(bar, description=case.what)
            async with asyncio.timeout(_CASE_SECONDS):
                rows.append(await run(case))
            progress.console.print(" | ".join(_cells(rows[-1])), highlight=False)
            progress.advance(bar)
    return rows


def _cells(row: Row) -> tuple[str, ...]:
    """Each time is the worst beside the bad, and in brackets the worst alone."""
    worst = [
        f"{_shown(beside)} ({_shown(alone)})"
        for alone, beside in zip(row.alone.worst, row.beside.worst, strict=True)
    ]
    refused = f"{row.beside.refused} refused" if row.beside.refused else ""
    verdict = "" if row.good else f"TOO MUCH {refused}".strip()
    return row.bad, str(row.count), *worst, str(row.beside.copies), _shown(max(0.0, row.cost)), verdict


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*_cells(row), style=None if row.good else "bold red")
    return table


def _markdown(rows: Sequence[Row]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    program.run(main)
