"""A lease in the database, for work that only one process at a time may do."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression.database import shielded
from bridge.suppression.model import leases

if TYPE_CHECKING:
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.database import Database

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NOBODY: Final = ""
"""The holder of a lease that was released."""


class _LeaseState(NamedTuple):
    """The state of a lease when it was read."""

    holder: str
    renewals: int


class Lease:
    """A lease that lasts some seconds after it was taken or renewed.

    Clocks of different machines are never compared, and the time of day is not used. For other processes a lease has
    expired when it was unchanged for its whole duration, by their own clock. The holder counts from before its request,
    by its own clock, and so always stops before another process can take the lease, even if it was stopped (SIGSTOP).
    """

    def __init__(self, database: Database, name: str, *, seconds: float) -> None:
        """Make a lease that we do not hold.

        Args:
            database: where it is kept.
            name: what it is for.
            seconds: how long it lasts.
        """
        self._database = database
        self._name = name
        self._seconds = seconds
        self._me = uuid.uuid4().hex
        self._until = 0.0
        self._renew_at = 0.0
        self._seen = _LeaseState(NOBODY, 0)
        self._seen_at = 0.0

    @property
    def is_held(self) -> bool:
        """Whether we hold it at this moment."""
        return monotonic_seconds() < self._until

    @property
    def renew_every(self) -> float:
        """Seconds after which it should be renewed."""
        return self._seconds / 3

    @property
    def renewal_due(self) -> bool:
        """Whether it is time to `write_holder`: we do not hold it, or it should be renewed."""
        return monotonic_seconds() >= self._renew_at

    async def try_acquire(self) -> bool:
        """Take it if it is free, or renew it when that is due. Returns whether we hold it.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        if not self.is_held and not await self.is_free():
            return False
        return await self.write_holder() if self.renewal_due else True

    @shielded
    async def is_free(self) -> bool:
        """Whether it can be taken. This only reads: a process that waits for the lease writes nothing.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        self._renew_at = 0.0
        async with self._database.read() as connection:
            row = (
                await connection.execute(
                    select(leases.c.holder, leases.c.renewals, leases.c.seconds).where(
                        leases.c.name == self._name
                    )
                )
            ).one_or_none()
        if row is None or row.holder in {NOBODY, self._me}:
            return True
        seen, now = _LeaseState(row.holder, row.renewals), monotonic_seconds()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return bool(now - self._seen_at >= row.seconds)

    @shielded
    async def has_holder(self) -> bool:
        """Whether a process holds it, or held it when it ended without releasing it. It has no influence on `is_free`.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        async with self._database.read() as connection:
            holder = await connection.scalar(select(leases.c.holder).where(leases.c.name == self._name))
        return holder is not None and holder != NOBODY

    @shielded
    async def write_holder(self) -> bool:
        """Write that we hold it: to renew it, or to take it after `is_free` returned true. Returns whether we hold it.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        began = monotonic_seconds()
        async with self._database.write_autocommit() as connection:
            taken = await connection.scalar(self._write_holder_statement(connection.dialect.name)) is not None
        self._until = began + self._seconds if taken else 0.0
        self._renew_at = began + self.renew_every if taken else 0.0
        return taken

    @shielded
    async def release(self) -> None:
        """Release it, so that another process can take it at once. Does nothing if we do not hold it.

        If its renewal is overdue, the database does not answer: then it is not asked, and the lease expires.

        Raises:
            StoreError: the database cannot be written: then the lease expires.
        """
        held = self.is_held and monotonic_seconds() < self._renew_at + self.renew_every / 2
        self._until = self._renew_at = 0.0
        if not held:
            return
        async with self._database.write_autocommit() as connection:
            await connection.execute(
                update(leases)
                .where(leases.c.name == self._name, leases.c.holder == self._me)
                .values(holder=NOBODY, renewals=leases.c.renewals + 1)
            )

    def _write_holder_statement(self, dialect: str) -> ReturningInsert[tuple[int]]:
        """Take it if it is ours or released, or if it was not renewed since we read it; else it returns no row."""
        insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        adding = insert(leases).values(name=self._name, holder=self._me, renewals=1, seconds=self._seconds)
        unchanged = and_(leases.c.holder == self._seen.holder, leases.c.renewals == self._seen.renewals)
        return adding.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": self._me, "renewals": leases.c.renewals + 1, "seconds": self._seconds},
            where=or_(leases.c.holder.in_([NOBODY, self._me]), unchanged),
        ).returning(leases.c.renewals)


def monotonic_seconds() -> float:
    """Seconds of a clock that is never set and, where the system has one, counts on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)
