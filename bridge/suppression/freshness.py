"""How far the list may be behind the events: each worker reports what it knows of events that wait, and all of it is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression import model
from bridge.suppression.database import shielded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.database import Database

    Rows = Sequence[Row[Any]]

LIVE_SECONDS: Final = 15.0
"""A worker whose last report is this much older than the newest one counts as gone."""
REQUEUED_AFTER_SECONDS: Final = 60.0
"""RabbitMQ has requeued what a dead worker held after this time: its heartbeats notice a dead machine within 30 s."""
ON_THE_WIRE_SECONDS: Final = 1.0
"""A delivery may be this long on its way from the queue to a worker."""

_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker knows of events that wait. All times are Unix seconds; None: it knows of no such event."""

    drained_at: float
    """When it last saw that all messages of the suppression queue were delivered to workers; 0: never."""
    caught_up_to: float
    """Every event that came in until then is on the list, or one of the other fields, of this worker or of another, covers it."""
    requeued_by: float
    """If there is no later report: when RabbitMQ has certainly requeued what this worker holds."""
    oldest_held: float | None = None
    """When the oldest event came in that was delivered to it, and that it has not acknowledged."""
    oldest_returning: float | None = None
    """The same for events that it has put into delay queues, or that RabbitMQ has requeued."""
    returned_by: float | None = None
    """When all of these are in the suppression queue again."""
    oldest_dead: float | None = None
    """The same for dead letters that nobody has replayed or discarded."""


class Freshness:
    """How far the list may be behind. Every method may raise `StoreError`."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """Make it. Args: the list's database; the time in Unix seconds."""
        self._database = database
        self._clock = clock

    @shielded
    async def report(self, source: str, report: Report) -> float:
        """Write the report of a worker in the place of its last one, and delete those of dead workers that say nothing more.

        Args:
            source: the worker process.
            report: what it knows now.

        Returns:
            Unix seconds: every live worker has seen the suppression queue empty since. So every event that was in the
            queue until then is done, or it is in the report of the worker that holds it.
        """
        values = {"source": source, "reported_at": self._clock(), **asdict(report)}
        async with self._database.write() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            await connection.execute(
                insert(model.freshness)
                .values(values)
                .on_conflict_do_update(index_elements=[model.freshness.c.source], set_=values)
            )
            rows = await _read_rows(connection)
            live, drained = _live(rows), _drained_by_all(rows)
            gone = [row.source for row in rows if row.source not in live and _ends_at(row) < drained]
            if gone:
                await connection.execute(delete(model.freshness).where(model.freshness.c.source.in_(gone)))
        return drained

    @shielded
    async def read(self) -> float | None:
        """The time, in Unix seconds, until which every event that RabbitMQ had taken is on the list, and published.

        An event that waits counts with the time at which it came in: unacknowledged at a worker, in a delay queue, or a
        dead letter. So does the oldest change in the outbox. While no worker runs, the time does not advance. RabbitMQ
        does not know the events in a receiver's spool, so they are not counted. None: no worker has ever reported.
        """
        async with self._database.read() as connection:
            rows = await _read_rows(connection)
            unpublished = await connection.scalar(
                select(model.changes.c.at)
                .where(model.changes.c.published_at.is_(None))
                .order_by(model.changes.c.id)
                .limit(1)
            )
        reported = fresh_as_of(rows)
        if reported is None or unpublished is None:
            return reported
        return min(reported, float(unpublished))


def fresh_as_of(rows: Rows) -> float | None:
    """The same without the outbox. Args: all rows of the table. None if there are none."""
    live, drained = _live(rows), _drained_by_all(rows)
    times: list[float | None] = []
    for row in rows:
        alive = row.source in live
        if alive or row.requeued_by >= drained:
            times += (row.caught_up_to, row.oldest_held)
        if alive or (row.returned_by or _NEVER) >= drained:
            times.append(row.oldest_returning)
        if alive:  # each live worker knows the dead letters of those that are gone
            times.append(row.oldest_dead)
    return min((at for at in times if at is not None), default=None)


def _live(rows: Rows) -> set[str]:
    """The workers that are running, or that ran last. Only the workers' clocks are compared, not the reader's."""
    newest = max((row.reported_at for row in rows), default=_NEVER)
    return {row.source for row in rows if row.reported_at > newest - LIVE_SECONDS}


def _drained_by_all(rows: Rows) -> float:
    live = _live(rows)
    return (
        float(min((row.drained_at for row in rows if row.source in live), default=_NEVER))
        - ON_THE_WIRE_SECONDS
    )


def _ends_at(row: Row[Any]) -> float:
    """When nothing of a dead worker's row counts any more, once all others have seen the queue empty."""
    return float(max(row.requeued_by, row.returned_by or _NEVER))


async def _read_rows(connection: AsyncConnection) -> Rows:
    return (await connection.execute(select(model.freshness))).all()
