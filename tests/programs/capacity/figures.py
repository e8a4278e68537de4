"""What an event costs, as it was measured, and the limits that others document: what the model is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BENCH: Final = Path(__file__).parent.parent / "bench"
_NUMBER: Final = re.compile(r"[\d,]+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in microseconds, space in bytes, rates a second."""

    receiver_us: float
    """Of a receiver process, for a confirmed event."""
    spooled_us: float
    """Of a receiver process, for an event that goes to the spool."""
    broker_us: float
    """Of one RabbitMQ node, for an event that goes to the archive, and to the worker's queue if it suppresses."""
    worker_us: float
    """Of a worker process, for an event that suppresses; PostgreSQL."""
    database_us: float
    """Of worker and PostgreSQL together, to record an event on the longest list that was measured."""
    archived_bytes: float
    """Of an event in the archive."""
    listed_bytes: float
    """In PostgreSQL: an entry with its change and its handled event, evidence and indexes included."""
    wal_bytes: float
    """That PostgreSQL writes ahead for an event that is recorded."""
    copy_us: float = 70.0
    """Of RabbitMQ, for each further queue that gets the event: docs/performance.md, at 200 events/s."""
    drain_rate: float = 3_250.0
    """Events a second out of one spool beside live traffic, on two cores: docs/reliability.md."""
    spooled_bytes: float = 180.0
    """Of an event in the spool, as `spool.max_bytes` counts it: a body of usual length, and 64."""
    known_bytes: float = 120.0
    """In PostgreSQL: an announced message and its address, with two indexes. Of 200,000 rows in order, once, by hand."""


@dataclass(frozen=True, slots=True)
class Limits:
    queue_rate: float = 20_000.0
    """Events a second through one queue or stream, to plan with. Half of the 41,000 that one node confirmed here; see the page."""
    lookups: float = 10.0
    """Calls of the provider's API a second: `provider.rate`."""
    utilisation: float = 0.6
    """Of a core at the peak: what is left is for bursts, and for what a process that ends leaves to the others."""
    replicas: int = 3
    """Nodes that have each event."""


def measured() -> Costs:
    """The figures of the last runs that are in the repository.

    Raises:
        LookupError: a row that it needs is not there.
    """
    results, growth = ((_BENCH / name).read_text() for name in ("results.md", "growth.md"))
    postgresql = _table(growth, "list, entries, PostgreSQL")
    return Costs(
        receiver_us=_cell(results, "bridge confirmed", 4),
        spooled_us=_cell(results, "bridge spooled", 4),
        broker_us=_cell(results, "bridge confirmed", 7),
        worker_us=_cell(results, "bridge worker | PostgreSQL", 3),
        database_us=_last(postgresql, "record an event"),
        archived_bytes=_last(_table(growth, "archive, events in it"), "disk, for each event"),
        listed_bytes=_last(postgresql, "disk, for each entry"),
        wal_bytes=_last(postgresql, "write ahead, for each event recorded"),
    )


def _table(text: str, part: str) -> str:
    _, found, after = text.partition(f"**Cost against size: {part}**")
    if not found:
        raise LookupError(f"there is no table of {part}: make bench ARGS='--only growth'")
    return after.partition("\n**")[0]


def _cells(text: str, name: str) -> list[str]:
    for line in text.splitlines():
        if line.startswith(f"| {name} |"):
            return [cell.strip() for cell in line.removeprefix(f"| {name} |").strip(" |").split(" | ")]
    raise LookupError(f"there is no row of {name}")


def _cell(text: str, name: str, column: int) -> float:
    """Args: the column, counted from the first one of the table, which is 0."""
    cells = [*name.split(" | "), *_cells(text, name)]
    return _number(cells[column])


def _last(table: str, name: str) -> float:
    """The cost at the largest size: before the ratio and the verdict."""
    return _number(_cells(table, name)[-3])


def _number(cell: str) -> float:
    if (found := _NUMBER.search(cell)) is None:
        raise LookupError(f"{cell} is no figure")
    return float(found[0].replace(",", ""))
