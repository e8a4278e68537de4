"""The suppression list: every way in which it is asked and changed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import func, or_, select, tuple_

from bridge.suppression import bulk, current_state, model, opening, writing
from bridge.suppression.addresses import normalise
from bridge.suppression.changes import TURN_SECONDS, Outbox, change_of
from bridge.suppression.database import StoreError, uninterrupted
from bridge.suppression.entries import entry_of
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from typing import Self

    from bridge.suppression.changes import Change
    from bridge.suppression.database import Database
    from bridge.suppression.entries import Entry

Outcome = Literal["added", "updated", "outdated", "repeated"]

_GIVE_BACK_SECONDS: Final = 0.5
"""What the end of a process may wait for its turn to be given back; otherwise it runs out by itself."""

NOTHING_NEW: Final[Mapping[str, str]] = MappingProxyType({})


class ProtectedComplaintError(StoreError):
    """A complaint is lifted only on purpose: with an override, an actor and a note."""


class NotSuppressedError(StoreError):
    """There is nothing to remove: the address is not on the list, or not for that reason."""


@dataclass(frozen=True, slots=True)
class Incident:
    """An event that suppresses, with the address that it is about."""

    address: str
    """As given; the list normalises it."""
    reason: Reason
    event_id: str
    event_at: int
    """When it happened, Unix seconds."""
    message_id: str
    evidence: bytes
    """The event as the provider sent it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an incident."""

    incident: Incident
    outcome: Outcome
    """Nothing was changed where it is `repeated`, as this event id was handled before, or `outdated`, as a person has
    taken the address off the list since the event happened."""


class Store:
    """The list. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        *,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self.outbox = Outbox(database, clock, turn_seconds=turn_seconds)
        """The changes that other services have not been told of yet."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database_url: str,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        turn_seconds: float = TURN_SECONDS,
    ) -> AsyncIterator[Self]:
        """The list in this database, which is brought to the newest revision first.

        Args:
            database_url: `sqlite+aiosqlite:///file` or `postgresql+asyncpg://user:password@host:port/database`.
            create: make the list where there is none. Without it that is a `StoreError`, so that a wrong path
                does not pass for a list on which nobody stands.
            clock: the time in Unix seconds.
            turn_seconds: how long another process waits before it publishes in our place.
        """
        async with opening.opened(database_url, create=create) as database:
            store = cls(database, clock, turn_seconds=turn_seconds)
            try:
                yield store
            finally:
                with suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(_GIVE_BACK_SECONDS):
                        await store.outbox.leave_turn()

    @uninterrupted
    async def record(
        self, incidents: Sequence[Incident], *, actor: str, addresses: Mapping[str, str] = NOTHING_NEW
    ) -> list[Recorded]:
        """Put what happened on the list, all in one transaction; one answer for each, in their order.

        An event id counts once, however often it comes and however many workers record it.

        Args:
            incidents: what happened.
            actor: who says so, for the log.
            addresses: message id -> address as given, to `remember` in the same transaction.

        Raises:
            InvalidAddressError: one of the addresses is none; nothing was changed.
            RefusedValueError: the database cannot take one of the incidents; nothing was changed.
        """
        causes: dict[str, writing.Cause] = {}
        for incident in incidents:
            causes.setdefault(incident.event_id, _cause(incident))
        if not causes:
            return []
        now = self._now()
        async with self._database.write() as connection:
            claimed = await writing.claim(connection, causes, now)
            fresh = [event_id for event_id in causes if event_id in claimed]
            done = await writing.put(
                connection, [causes[event_id] for event_id in fresh], actor=actor, now=now
            )
            await writing.keep_addresses(connection, addresses, now)
        outcomes: dict[str, Outcome] = dict(zip(fresh, done, strict=True))
        # The first incident of an event takes the outcome away; those that repeat it find none.
        return [Recorded(incident, outcomes.pop(incident.event_id, "repeated")) for incident in incidents]

    @uninterrupted
    async def known_addresses(self, message_ids: Collection[str]) -> dict[str, str]:
        """Message id -> address as given, for those ids that are known."""
        table = model.known_messages
        known: dict[str, str] = {}
        async with self._database.read() as connection:
            for some in bulk.among(connection, table.c.message_id, set(message_ids)):
                query = select(table.c.message_id, table.c.address).where(some)
                known.update((row.message_id, row.address) for row in await connection.execute(query))
        return known

    @uninterrupted
    async def remember(self, addresses: Mapping[str, str]) -> None:
        """Keep message id -> address as given; what was kept for an id before is replaced."""
        if not addresses:
            return
        async with self._database.write() as connection:
            await writing.keep_addresses(connection, addresses, self._now())

    @uninterrupted
    async def check(self, address: str) -> list[Entry]:
        """What forbids writing to this address now: its entries, without the expired ones.

        Raises:
            InvalidAddressError: it is no address.
        """
        table = model.suppressions
        in_force = or_(table.c.expires_at.is_(None), table.c.expires_at > self._now())
        query = select(table).where(table.c.address == normalise(address), in_force).order_by(table.c.reason)
        async with self._database.read() as connection:
            return [entry_of(row) for row in await connection.execute(query)]

    @uninterrupted
    async def entries(
        self, *, reason: Reason | None = None, limit: int, after: tuple[str, str] | None = None
    ) -> list[Entry]:
        """One page of the list, expired entries too, ordered by address and reason.

        Args:
            reason: only those of this reason.
            limit: how many at the most.
            after: address and reason of the last entry of the page before.
        """
        table = model.suppressions
        query = select(table).order_by(table.c.address, table.c.reason).limit(limit)
        if reason is not None:
            query = query.where(table.c.reason == reason.value)
        if after is not None:
            query = query.where(tuple_(table.c.address, table.c.reason) > tuple_(*after))
        async with self._database.read() as connection:
            return [entry_of(row) for row in await connection.execute(query)]

    @uninterrupted
    async def count_by_reason(self) -> dict[Reason, int]:
        """How many entries each reason has, expired ones too; a reason without any has 0."""
        table = model.suppressions
        query = select(table.c.reason, func.count().label("entries")).group_by(table.c.reason)
        async with self._database.read() as connection:
            counts = {row.reason: row.entries for row in await connection.execute(query)}
        return {reason: counts.get(reason.value, 0) for reason in Reason}

    @uninterrupted
    async def add(
        self,
        address: str,
        *,
        reason: Reason = Reason.MANUAL,
        actor: str,
        note: str,
        expires_at: int | None = None,
    ) -> Entry:
        """Somebody puts an address on the list; an entry that is there already counts one more.

        Args:
            address: as given; the list normalises it.
            reason: why; the entry of another reason is another entry.
            actor: who does it, for the log.
            note: why they do it, for the log.
            expires_at: Unix seconds; None is for good. An entry never ends sooner than it did before.

        Raises:
            InvalidAddressError: it is no address.
        """
        now = self._now()
        cause = writing.Cause(normalise(address), address, reason, at=now, note=note, expires_at=expires_at)
        async with self._database.write() as connection:
            await writing.put(connection, [cause], actor=actor, now=now)
            return await writing.entry(connection, cause.key)

    @uninterrupted
    async def remove(
        self, address: str, *, reason: Reason | None, actor: str, note: str, override: bool = False
    ) -> list[Entry]:
        """Somebody takes an address off the list: its entry of that reason, or all. Answers what was removed.

        Events that happened until now do not put it back for that reason, however late they come; where all is
        removed, for any reason: of complaints only with the override, the actor and the note.

        Raises:
            InvalidAddressError: it is no address.
            NotSuppressedError: there is no such entry.
            ProtectedComplaintError: one is a complaint, and the override, the actor or the note is missing;
                nothing was removed.
        """
        table = model.suppressions
        query = select(table).where(table.c.address == normalise(address)).order_by(table.c.reason)
        if reason is not None:
            query = query.where(table.c.reason == reason.value)
        may_lift_complaints = override and bool(actor.strip()) and bool(note.strip())
        async with self._database.write() as connection:
            await current_state.alone(connection)
            entries = [entry_of(row) for row in await connection.execute(query)]
            if not entries:
                raise NotSuppressedError(
                    f"{address} is not on the list" + (f" for the reason {reason}" if reason else "")
                )
            if not may_lift_complaints and any(entry.reason is Reason.COMPLAINT for entry in entries):
                raise ProtectedComplaintError(
                    f"{address} has complained: to write to it again needs an override, and a note and a name for "
                    "the log"
                )
            reasons = set(Reason) if reason is None else {reason}
            if not may_lift_complaints:
                reasons.discard(Reason.COMPLAINT)
            await writing.lift(connection, entries, reasons=reasons, actor=actor, note=note, now=self._now())
        return entries

    @uninterrupted
    async def history(self, address: str) -> list[Change]:
        """Every change that this address has seen, oldest first.

        Raises:
            InvalidAddressError: it is no address.
        """
        table = model.changes
        query = select(table).where(table.c.address == normalise(address)).order_by(table.c.id)
        async with self._database.read() as connection:
            return [change_of(row) for row in await connection.execute(query)]

    def _now(self) -> int:
        return int(self._clock())


def _cause(incident: Incident) -> writing.Cause:
    return writing.Cause(
        address=normalise(incident.address),
        original=incident.address,
        reason=incident.reason,
        at=incident.event_at,
        event_id=incident.event_id,
        message_id=incident.message_id,
        evidence=incident.evidence,
    )
