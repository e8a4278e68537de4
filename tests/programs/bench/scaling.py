"""How much faster several workers are than one: a full queue, a warm list in PostgreSQL, 1, 2 and 4 processes."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import aio_pika
import typer
from rich.console import Console
from rich.table import Table

from bridge.development import private_node
from bridge.settings import sections
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.bench.working import POSTGRESQL, WORKER, Scene, every_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.programs.bench.working import Speed

PROCESSES: Final = (1, 2, 4)
EVENTS: Final = 30_000


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """Medians over the rounds."""

    processes: int
    events_per_second: float
    """Of all of them together."""
    cpu_us: float
    """Of all workers, per event; RabbitMQ's and PostgreSQL's are not in it."""
    ratio: float
    """To one process in the same round."""


async def measure(
    *, rounds: int, say: Callable[[str], None], number: int = EVENTS, processes: Sequence[int] = PROCESSES
) -> list[ScalingRow]:
    """Let so many workers empty a queue of `number` events, in turn, each time on a fresh list.

    Args:
        rounds: how often each.
        say: told of each figure as it comes, one line.
        number: of events, each about an address of its own.
        processes: how many workers; the first is what the others are compared with.

    Raises:
        NodeError: RabbitMQ cannot be started.
        RuntimeError: a worker ended, or left something undone.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-bench-")))
        node = await stack.enter_async_context(private_node.running_node(folder / "node"))
        connection = await stack.enter_async_context(await aio_pika.connect(node.url))
        database_in = dict(await stack.enter_async_context(every_store()))[POSTGRESQL]
        speeds: dict[int, list[Speed]] = {count: [] for count in processes}
        for turn in range(rounds):
            for count, taken in speeds.items():
                place = folder / f"{count}-workers-{turn}"
                place.mkdir()
                scene = Scene(node.url, connection, place, await database_in(place), number, processes=count)
                taken.append(await scene.measured(WORKER))
                say(f"{count} workers: {taken[-1].events_per_second:,.0f} events/s")
        return [_row(count, speeds[count], speeds[processes[0]]) for count in processes]


def _row(count: int, taken: Sequence[Speed], alone: Sequence[Speed]) -> ScalingRow:
    return ScalingRow(
        processes=count,
        events_per_second=statistics.median(speed.events_per_second for speed in taken),
        cpu_us=statistics.median(speed.cpu_us for speed in taken),
        ratio=statistics.median(
            one.events_per_second / first.events_per_second for one, first in zip(taken, alone, strict=True)
        ),
    )


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 3,
    events: Annotated[int, typer.Option(help="How many wait in the queue.")] = EVENTS,
) -> None:
    """Several workers against one, on one PostgreSQL.

    Example: python -m tests.programs.bench.scaling --rounds 3
    """
    logs.configure(sections.Logs(level="error"))
    console = Console(width=110)
    rows = asyncio.run(
        measure(rounds=rounds, say=lambda line: console.print(line, highlight=False), number=events)
    )
    table = Table("workers", "events/s", "CPU of the workers, us/event", "to one worker")
    for row in rows:
        table.add_row(
            str(row.processes), f"{row.events_per_second:,.0f}", f"{row.cpu_us:.0f}", f"{row.ratio:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    program.run(main)
