"""Which of the processes on one database does what one at a time should do: a lease, kept in the database."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression.database import uninterrupted
from bridge.suppression.model import leases

if TYPE_CHECKING:
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.database import Database

NOBODY: Final = ""
"""The holder of a lease that was given back."""


class _Seen(NamedTuple):
    """A lease as it stood when it was read."""

    holder: str
    renewals: int


class Lease:
    """A lease that lasts some seconds, and as long again each time that it is renewed.

    No clock of one machine is compared with that of another, nor is the time of day: a lease has run out for us when
    it stood unchanged for as long as it lasts, by our own clock. The holder counts from before it asked, by its own,
    and so always gives it up before anybody else can take it: also one that was stopped (SIGSTOP) meanwhile.
    """

    def __init__(self, database: Database, name: str, *, seconds: float) -> None:
        """Make a lease that we do not have.

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
        self._seen = _Seen(NOBODY, 0)
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether it is ours at this moment."""
        return elapsed() < self._until

    @property
    def renew_every(self) -> float:
        """Seconds after which it is renewed."""
        return self._seconds / 3

    @property
    def due(self) -> bool:
        """Whether it is time to `claim` it: it is not ours, or should be renewed."""
        return elapsed() >= self._renew_at

    async def take(self) -> bool:
        """Take it if it is free, renew it when it is time to; whether it is ours.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        if not self.held and not await self.free():
            return False
        return await self.claim() if self.due else True

    @uninterrupted
    async def free(self) -> bool:
        """Whether it can be taken. This only reads: who waits for it writes nothing.

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
        seen, now = _Seen(row.holder, row.renewals), elapsed()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return bool(now - self._seen_at >= row.seconds)

    @uninterrupted
    async def claim(self) -> bool:
        """Take or renew it, where it is ours or `free` has said that it is free; whether it is ours. This writes.

        Raises:
            StoreError: the database does not say (`StoreUnavailableError` where waiting may help).
        """
        began = elapsed()
        async with self._database.write_singly() as connection:
            taken = await connection.scalar(self._claiming(connection.dialect.name)) is not None
        self._until = began + self._seconds if taken else 0.0
        self._renew_at = began + self.renew_every if taken else 0.0
        return taken

    @uninterrupted
    async def give_back(self) -> None:
        """Let another process have it at once. Without an effect where it is not ours.

        Where its renewal is overdue the database does not answer: it is not asked, and the lease runs out by itself.

        Raises:
            StoreError: the database does not take it: then it runs out by itself.
        """
        held = self.held and elapsed() < self._renew_at + self.renew_every / 2
        self._until = self._renew_at = 0.0
        if not held:
            return
        async with self._database.write_singly() as connection:
            await connection.execute(
                update(leases)
                .where(leases.c.name == self._name, leases.c.holder == self._me)
                .values(holder=NOBODY, renewals=leases.c.renewals + 1)
            )

    def _claiming(self, dialect: str) -> ReturningInsert[tuple[int]]:
        """Take it where it is ours or nobody's, or where nobody has renewed it since we saw it; else no row."""
        insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        adding = insert(leases).values(name=self._name, holder=self._me, renewals=1, seconds=self._seconds)
        unchanged = and_(leases.c.holder == self._seen.holder, leases.c.renewals == self._seen.renewals)
        return adding.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": self._me, "renewals": leases.c.renewals + 1, "seconds": self._seconds},
            where=or_(leases.c.holder.in_([NOBODY, self._me]), unchanged),
        ).returning(leases.c.renewals)


def elapsed() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
