"""The outbox: the changes of the log that are still to be published to other services."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, func, select, update

from bridge.suppression import bulk, model
from bridge.suppression.change import Change
from bridge.suppression.database import shielded
from bridge.suppression.lease import Lease
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from bridge.suppression.database import Database

_LOG: Final = model.changes.c
_OLDEST: Final = (
    select(model.changes).where(_LOG.published_at.is_(None)).order_by(_LOG.id).limit(bindparam("most"))
)
_MARK: Final = update(model.changes).where(_LOG.published_at.is_(None)).values(published_at=bindparam("now"))
_MARK_RANGE: Final = _MARK.where(_LOG.id.between(bindparam("first"), bindparam("last")))

PUBLISH_LEASE: Final = "publish changes"
"""The lease of the process that publishes the changes."""
LEASE_SECONDS: Final = 10.0
"""How long the lease lasts by default."""


class Lag(NamedTuple):
    """What is in the outbox."""

    changes: int
    """How many changes are not published yet."""
    seconds: int
    """Age of the oldest one; 0 if there is none."""


class Outbox:
    """Changes that are committed and still have to be published.

    A change stays until it is marked as published. If the mark is lost it is published twice, with the same id. Of the
    processes that share a database one at a time publishes: the one that holds a lease in the database.
    """

    def __init__(self, database: Database, clock: Callable[[], float], *, lease_seconds: float) -> None:
        """Make an outbox without the lease.

        Args:
            database: the list's.
            clock: the time in Unix seconds.
            lease_seconds: how long the lease lasts unless it is renewed. After that another process may take it.
        """
        self._database = database
        self._clock = clock
        self._lease = Lease(database, PUBLISH_LEASE, seconds=lease_seconds)

    @property
    def holds_lease(self) -> bool:
        """Whether we hold the lease at this moment. After a delay since `pending` it must be checked again."""
        return self._lease.is_held

    @property
    def lease_renewal_due(self) -> bool:
        """Whether it is time to `write_lease_holder`."""
        return self._lease.renewal_due

    @property
    def lease_renew_seconds(self) -> float:
        """Seconds from a renewal until the next one is due."""
        return self._lease.renew_every

    async def pending(self, limit: int) -> list[Change]:
        """Up to `limit` changes that are not published, oldest first; none while another process holds the lease.

        This takes the lease if it is free. It only reads if we hold the lease and its renewal is not due.

        Changes are committed in the order of their ids: each writer takes a lock before it gets its first one.

        Raises:
            StoreError: the list cannot be read or written (`StoreUnavailableError` where waiting may help).
        """
        return await self._oldest(limit) if await self._lease.try_acquire() else []

    async def lease_is_free(self) -> bool:
        """Whether no process holds the lease. This only reads.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        return await self._lease.is_free()

    async def has_publisher(self) -> bool:
        """Whether some process publishes the changes, or did so until it was killed. This only reads.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        return await self._lease.has_holder()

    async def write_lease_holder(self) -> bool:
        """Renew the lease, or take it if it is free. Returns whether it is ours. This writes.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        return await self._lease.write_holder()

    async def release_lease(self) -> None:
        """Release the lease, so that another process can publish at once. The next `pending` asks for it again.

        Raises:
            StoreError: the list cannot be written. Another process then waits until the lease has expired.
        """
        await self._lease.release()

    @shielded
    async def _oldest(self, limit: int) -> list[Change]:
        async with self._database.read() as connection:
            # All at once: the rows one by one would cost a call each.
            return [change_of(row) for row in (await connection.execute(_OLDEST, {"most": limit})).all()]

    @shielded
    async def mark_published(self, ids: Collection[int]) -> None:
        """Mark changes that RabbitMQ has confirmed. Marking one again changes nothing.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        if not ids:
            return
        now = int(self._clock())
        first, last = min(ids), max(ids)
        async with self._database.write() as connection:
            if last - first + 1 == len(ids):  # nearly always: to name each would cost as much as to write it
                await connection.execute(_MARK_RANGE, {"now": now, "first": first, "last": last})
                return
            for some in bulk.column_in(connection, model.changes.c.id, ids):
                await connection.execute(_MARK.where(some), {"now": now})

    @shielded
    async def lag(self) -> Lag:
        """How many changes are in the outbox, and the age of the oldest one.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        query = select(func.count(), func.min(model.changes.c.at)).where(
            model.changes.c.published_at.is_(None)
        )
        async with self._database.read() as connection:
            count, oldest = (await connection.execute(query)).one()
        return Lag(count, 0 if oldest is None else max(0, int(self._clock()) - oldest))


def change_of(row: Sequence[Any]) -> Change:
    """The change in a row of the table `changes`, with all its columns in their order."""
    (
        id_, at, action, address, reason, actor, note, event_id, message_id, evidence, published_at, reasons, _, trace,
    ) = row  # fmt: skip
    return Change(
        id_,
        at,
        action,
        address,
        _reason_of(reason) if reason else None,
        actor,
        note,
        event_id,
        message_id,
        evidence,
        published_at,
        None if reasons is None else _reasons_of(reasons),
        trace,
    )


@lru_cache(maxsize=64)
def _reason_of(text: str) -> Reason:
    return Reason(text)


@lru_cache(maxsize=64)
def _reasons_of(text: str) -> tuple[Reason, ...]:
    return tuple(Reason(one) for one in text.split(",") if one)
