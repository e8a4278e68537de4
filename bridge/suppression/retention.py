"""What the list deletes when it has grown old: how old that is, and one small transaction after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.suppression import model, pruning, pruning_walks
from bridge.suppression.database import shielded
from bridge.suppression.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.settings.list_sections import Retention as RetentionSettings
    from bridge.suppression.database import Database
    from bridge.suppression.pruning_walks import Position, Walked

    Deletion = Callable[[AsyncConnection, int, int], Awaitable[int]]
    Walk = Callable[[AsyncConnection, int, int, Position | None], Awaitable[Walked]]

PRUNE_LEASE: Final = "prune"
"""The lease of the process that deletes what is old."""

DAY: Final = 86_400
IDEMPOTENCY_SECONDS: Final = 2 * DAY
"""How long an answer is kept: a client may count on one day."""
IMPORT_SECONDS: Final = 30 * DAY
"""How long it is known that an import has ended."""

_SECONDS_OF_UNIT: Final = {"Y": 365 * DAY, "M": 31 * DAY, "D": DAY, "h": 3600, "m": 60, "s": 1}
"""Of RabbitMQ's ages."""

TABLES: Final = (
    model.suppressions,
    model.changes,
    model.handled_events,
    model.known_messages,
    model.soft_bounces,
    model.deliveries,
)
"""Those that grow, for the metrics."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long something is kept."""

    name: str
    """What is deleted, for metrics: the table, or `evidence`."""
    seconds: int
    delete: Walk


class Step(NamedTuple):
    """What one transaction has done."""

    rows: int
    """How many rows it has deleted, or gone through."""
    seconds: float
    """For how long others could not write, or those rows at least."""
    seen: int
    """How many rows it has gone through; more than `rows` where some of them stay."""
    behind: Position | None = None
    """Where the next one of those that go through rows is to begin."""

    @property
    def more(self) -> bool:
        """Whether there may be more to delete."""
        return self.behind is not None or self.rows > 0


class Retention:
    """Deletes what is old. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(self, database: Database, clock: Callable[[], float], *, lease_seconds: float) -> None:
        """Args: the list's database; the time in Unix seconds; how long the lease lasts that `lease` gives."""
        self._database = database
        self._clock = clock
        self.lease = Lease(database, PRUNE_LEASE, seconds=lease_seconds)
        """Of the processes that share a database one at a time deletes: the one that holds this."""

    @shielded
    async def delete_some(self, limit: Limit, rows: int, behind: Position | None = None) -> Step:
        """Delete at most `rows` of the rows that are older than this limit, the oldest first, in one transaction.

        Args:
            limit: what, and how old.
            rows: how many it goes through at most.
            behind: where the step before has stopped, if it says so.
        """
        before = int(self._clock()) - limit.seconds
        async with self._database.write() as connection:
            began = time.monotonic()
            done = await limit.delete(connection, before, rows, behind)
        return Step(done.rows, time.monotonic() - began, done.seen, done.behind)

    @shielded
    async def count_rows(self) -> dict[str, int]:
        """The number of rows of each of `TABLES`; of a long table in PostgreSQL about as many."""
        found = {}
        for table in TABLES:
            async with self._database.read() as connection:
                found[table.name] = await pruning.count_rows(connection, table)
        return found

    @shielded
    async def changes_deleted_until(self) -> int | None:
        """Of changes that were made until then (Unix seconds) some are deleted; None: none ever was."""
        async with self._database.read() as connection:
            return await pruning.read_mark(connection, pruning.LOG_MARK)


def repeats_count_again(settings: RetentionSettings, archive_max_age: str) -> str | None:
    """Why events that are repeated may count again, in one line; None: they are remembered for as long as the archive has them.

    Args:
        settings: how long handled events are remembered.
        archive_max_age: `rabbitmq.archive_max_age`, such as `7D`.
    """
    days = settings.handled_events_days
    archived = int(archive_max_age[:-1]) * _SECONDS_OF_UNIT[archive_max_age[-1]]
    if days is None or days * DAY >= archived:
        return None
    return (
        f"retention.handled_events_days ({days:g}) is shorter than rabbitmq.archive_max_age ({archive_max_age}): an older "
        "event that is replayed counts again"
    )


def limits_of(settings: RetentionSettings, *, soft_bounce_seconds: int | None) -> list[Limit]:
    """The limits in these settings, and those that follow from the policy.

    Args:
        settings: how many days.
        soft_bounce_seconds: how long soft bounces and deliveries have an effect; None: for good.
    """
    evidence = [days for days in (settings.evidence_days, settings.changes_days) if days is not None]
    days_kept: dict[str, tuple[float | None, Walk]] = {
        "handled_events": (settings.handled_events_days, _all(pruning.delete_handled_events)),
        "known_messages": (settings.known_messages_days, _all(pruning.delete_known_messages)),
        # The evidence of an entry is found by the change that made it.
        "evidence": (min(evidence, default=None), _all(pruning.delete_evidence)),
        "evidence of soft bounces": (settings.evidence_days, pruning_walks.delete_evidence_of_soft_bounces),
        "changes": (settings.changes_days, _all(pruning.delete_changes)),
    }
    seconds_kept: dict[str, tuple[int | None, Walk]] = {
        "soft_bounces": (soft_bounce_seconds, pruning_walks.delete_soft_bounces),
        "deliveries": (soft_bounce_seconds, pruning_walks.delete_deliveries),
        "idempotent_requests": (IDEMPOTENCY_SECONDS, _all(pruning.delete_idempotent_requests)),
        "imports": (IMPORT_SECONDS, _all(pruning.delete_imports)),
    }
    return [
        *(Limit(name, round(days * DAY), how) for name, (days, how) in days_kept.items() if days is not None),
        *(Limit(name, seconds, how) for name, (seconds, how) in seconds_kept.items() if seconds is not None),
    ]


def _all(delete: Deletion) -> Walk:
    """A deletion of which nothing stays that is old enough, so that each finds its rows at the front."""

    async def deletion(connection: AsyncConnection, before: int, limit: int, _: Position | None) -> Walked:
        rows = await delete(connection, before, limit)
        return pruning_walks.Walked(rows, rows, None)

    return deletion
