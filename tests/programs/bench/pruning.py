"""How long others wait for the worker that deletes what is old: events are recorded while it deletes hundreds of thousands."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from bridge.settings import sections
from bridge.settings.list_sections import Retention
from bridge.suppression.policy import Reason
from bridge.suppression.retention import limits_of
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics
from bridge.worker.dependencies import Dependency
from bridge.worker.pruner import MAX_LOCK_SECONDS, Pruner
from tests.programs import program
from tests.programs.bench.working import every_store
from tests.support import postgres, stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.suppression.pruning_walks import Position
    from bridge.suppression.retention import Limit, Step

ROWS: Final = 300_000
"""Old rows: half of them handled events, half known messages."""
_EVERY_SECONDS: Final = 0.01
_ALONE: Final = 300
"""Events that are recorded before, while nothing is deleted."""


@dataclass(frozen=True, slots=True)
class PruningFigures:
    """Of one store. Times are seconds."""

    store: str
    rows: int
    took: float
    """Until all of them were deleted, with the pauses."""
    longest: float
    """The longest transaction of the pruner: the bar is 0.05."""
    median: float
    alone: float
    """The longest that an event took to be recorded while nothing was deleted."""
    beside: float
    """The same while rows were deleted."""


async def measure(*, say: Callable[[str], None], rows: int = ROWS) -> list[PruningFigures]:
    """Fill a list with old rows, delete them as a worker does, and record events meanwhile; on each store."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        async with every_store() as places:
            for name, url_in in places:
                place = Path(folder) / name
                place.mkdir()
                figures.append(await _of_store(name, await url_in(place), rows))
                say(str(figures[-1]))
    return figures


async def _of_store(name: str, url: str, rows: int) -> PruningFigures:
    async with Store.open(url) as pruned, Store.open(url) as written:
        await _fill(url, rows // 2)
        alone = [await _recorded(written, f"alone-{number}") for number in range(_ALONE)]
        steps: list[Step] = []
        began = time.perf_counter()
        async with _pruning(pruned, steps) as done:
            beside: list[float] = []
            while not done.is_set():
                beside.append(await _recorded(written, f"beside-{len(beside)}"))
                await asyncio.sleep(_EVERY_SECONDS)
        took = time.perf_counter() - began
    seconds = sorted(step.seconds for step in steps if step.rows)
    deleted = sum(step.rows for step in steps)
    return PruningFigures(
        name, deleted, took, seconds[-1], seconds[len(seconds) // 2], max(alone), max(beside)
    )


@asynccontextmanager
async def _pruning(store: Store, steps: list[Step]) -> AsyncIterator[asyncio.Event]:
    """A worker's pruner, and whether it has deleted all. Args: gets what each transaction has done."""
    done = asyncio.Event()
    delete = store.retention.delete_some

    async def noted(limit: Limit, rows: int, behind: Position | None = None) -> Step:
        step = await delete(limit, rows, behind)
        steps.append(step)
        if not step.more and limit is limits[-1]:
            done.set()
        return step

    store.retention.delete_some = noted  # type: ignore[method-assign]  # the measurement looks over its shoulder
    metrics = Metrics()
    limits = limits_of(Retention(), soft_bounce_seconds=None)
    database = Dependency("database", failure_limit=1, max_pause=1.0, metrics=metrics)
    pruner = Pruner(store.retention, store.hashing, limits, database=database, metrics=metrics)
    running = asyncio.create_task(pruner.run(), name="pruner")
    try:
        yield done
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _recorded(store: Store, event_id: str) -> float:
    event = SuppressingEvent(
        f"{event_id}@example.org", Reason.HARD_BOUNCE, event_id, 1_700_000_000, event_id, b"{}"
    )
    began = time.perf_counter()
    await store.record([event], actor="worker")
    return time.perf_counter() - began


async def _fill(url: str, rows: int) -> None:
    """So many old rows in each of the two tables that grow fastest."""
    if postgres.is_postgresql(url):
        numbers = f"generate_series(1, {rows}) AS numbers (n)"
        names = "md5(n::text)"
    else:
        recursive = (
            f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {rows})"  # noqa: S608 -- of constants
        )
        numbers = f"({recursive} SELECT n FROM numbers)"  # noqa: S608 -- of constants
        names = "printf('%016x%016x', (n * 2654435761) % 4294967296, n)"
    await stores.execute(
        url,
        f"INSERT INTO handled_events SELECT {names}, n / 1000 FROM {numbers}",  # noqa: S608 -- of constants
        f"INSERT INTO known_messages SELECT {names}, 'r' || n || '@example.org', n / 1000 FROM {numbers}",  # noqa: S608 -- of constants
    )


def main(
    rows: Annotated[int, typer.Option(help="Old rows that are deleted.")] = ROWS,
) -> None:
    """How long others wait while what is old is deleted. The bar: no transaction of the pruner takes 50 ms.

    Example: python -m tests.programs.bench.pruning --rows 100000
    """
    logs.configure(sections.Logs(level="error"))
    console = Console()
    table = Table(
        "store", "rows", "took", "longest transaction", "median", "record alone, worst", "beside, worst"
    )
    for one in asyncio.run(measure(say=lambda line: console.print(line, highlight=False), rows=rows)):
        times = (one.longest, one.median, one.alone, one.beside)
        table.add_row(
            one.store, f"{one.rows:,}", f"{one.took:.1f} s", *(f"{seconds * 1000:.1f} ms" for seconds in times),
            style=None if one.longest <= MAX_LOCK_SECONDS else "bold red",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    program.run(main)
