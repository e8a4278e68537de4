"""The suppression list: all queries and changes."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge.suppression import current_state, opening, reading, writing
from bridge.suppression.address_keys import PLAIN
from bridge.suppression.allow_list import AllowList
from bridge.suppression.changes import LEASE_SECONDS, Outbox
from bridge.suppression.database import shielded
from bridge.suppression.erasing import Erasures
from bridge.suppression.errors import NotSuppressedError, ProtectedComplaintError, StoreError
from bridge.suppression.freshness import Freshness
from bridge.suppression.policy import Reason
from bridge.suppression.suppressing_events import RecordedEvent
from bridge.suppression.transfer.exporting import Exporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from typing import Self

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.changes import Change
    from bridge.suppression.database import Database
    from bridge.suppression.entries import Entry
    from bridge.suppression.suppressing_events import RecordOutcome, SuppressingEvent

_RELEASE_SECONDS: Final = 0.5
"""How long the end of a process may wait for the release of its lease; otherwise the lease expires."""

NO_ADDRESSES: Final[Mapping[str, str]] = MappingProxyType({})


class Store:
    """The list. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        *,
        lease_seconds: float = LEASE_SECONDS,
        keys: AddressKeys = PLAIN,
    ) -> None:
        """Use `open` instead. Args: a database with the newest revision; otherwise as there."""
        self._database = database
        self._clock = clock
        self._keys = keys
        self.outbox = Outbox(database, clock, lease_seconds=lease_seconds)
        """The changes that are not published yet."""
        self.freshness = Freshness(database, clock)
        """How far the list may be behind."""
        self.allow_list = AllowList(database, clock, keys)
        """Who is written to all the same."""
        self.erasures = Erasures(database, clock, keys)
        """Who was erased."""
        self.exports = Exporter(database, clock)
        """The list as a file."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database_url: str,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
        keys: AddressKeys = PLAIN,
    ) -> AsyncIterator[Self]:
        """Open the list in this database, and migrate it to the newest revision.

        Args:
            database_url: `sqlite+aiosqlite:///file` or `postgresql+asyncpg://user:password@host:port/database`.
            create: make the list if there is none. Without it that is a `StoreError`, so that a wrong path does not look
                like an empty list.
            clock: the time in Unix seconds.
            lease_seconds: how long another process waits before it takes over publishing.
            keys: under which key each address stands.
        """
        async with opening.open_database(database_url, create=create) as database:
            store = cls(database, clock, lease_seconds=lease_seconds, keys=keys)
            try:
                yield store
            finally:
                with suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(_RELEASE_SECONDS):
                        await store.outbox.release_lease()

    @shielded
    async def record(
        self, events: Sequence[SuppressingEvent], *, actor: str, addresses: Mapping[str, str] = NO_ADDRESSES
    ) -> list[RecordedEvent]:
        """Record events in one transaction. Returns a result for each, in the same order.

        An event id counts once, even if it comes often or several workers record it.

        Args:
            events: what happened.
            actor: who makes the changes, for the change log.
            addresses: message id -> address, to `remember` in the same transaction.

        Raises:
            InvalidAddressError: one of the addresses is invalid; nothing was changed.
            RefusedValueError: the database refuses one of the events; nothing was changed.
        """
        causes: dict[str, writing.Cause] = {}
        for event in events:
            causes.setdefault(event.event_id, self._cause(event))
        if not causes:
            return []
        now = self._now()
        async with self._database.write() as connection:
            unhandled = await writing.mark_handled(connection, causes, now)
            fresh = [event_id for event_id in causes if event_id in unhandled]
            done = await writing.upsert_entries(
                connection, [causes[event_id] for event_id in fresh], actor=actor, now=now
            )
            await writing.upsert_addresses(connection, addresses, now)
        outcomes: dict[str, RecordOutcome] = dict(zip(fresh, done, strict=True))
        # Of several with one event id the first takes the outcome; the others are repeats.
        return [RecordedEvent(event, outcomes.pop(event.event_id, "repeated")) for event in events]

    @shielded
    async def known_addresses(self, message_ids: Collection[str]) -> dict[str, str]:
        """Message id -> address, for the known ones of these ids."""
        async with self._database.read() as connection:
            return await reading.read_known_addresses(connection, message_ids)

    @shielded
    async def remember(self, addresses: Mapping[str, str]) -> None:
        """Store the addresses of messages. A known id gets the new address."""
        if not addresses:
            return
        async with self._database.write() as connection:
            await writing.upsert_addresses(connection, addresses, self._now())

    @shielded
    async def check(self, address: str) -> list[Entry]:
        """The entries that suppress this address now, without expired ones.

        Raises:
            InvalidAddressError: it is not an address.
        """
        key = self._keys.written(address)
        async with self._database.read() as connection:
            return await reading.read_entries(connection, key, in_force_at=self._now())

    @shielded
    async def entries(
        self, *, reason: Reason | None = None, limit: int, after: tuple[str, str] | None = None
    ) -> list[Entry]:
        """One page of the list, with expired entries, ordered by address and reason.

        Args:
            reason: only those of this reason.
            limit: the maximum number.
            after: address and reason of the last entry of the page before.
        """
        async with self._database.read() as connection:
            return await reading.read_page(connection, reason=reason, limit=limit, after=after)

    @shielded
    async def count_by_reason(self) -> dict[Reason, int]:
        """The number of entries of each reason, with expired ones; 0 for a reason without entries."""
        async with self._database.read() as connection:
            return await reading.count_by_reason(connection)

    @shielded
    async def add(
        self,
        address: str,
        *,
        reason: Reason = Reason.MANUAL,
        actor: str,
        note: str,
        expires_at: int | None = None,
    ) -> Entry:
        """Add an address manually. An existing entry counts one more.

        Args:
            address: in any spelling; the list normalises it.
            reason: an address has one entry for each reason.
            actor: who adds it, for the change log.
            note: why, for the change log.
            expires_at: Unix seconds; None: never. An existing entry never expires earlier than before.

        Raises:
            InvalidAddressError: it is no address.
        """
        now = self._now()
        cause = writing.Cause(
            self._keys.written(address), address, reason, at=now, note=note, expires_at=expires_at
        )
        async with self._database.write() as connection:
            await writing.upsert_entries(connection, [cause], actor=actor, now=now)
            return await reading.read_entry(connection, cause.key)

    @shielded
    async def remove(
        self,
        address: str,
        *,
        reason: Reason | None,
        actor: str,
        note: str,
        override: bool = False,
        dry_run: bool = False,
    ) -> list[Entry]:
        """Remove an address manually: its entry of that reason, or all. Returns the removed entries. A dry run only checks.

        Events that happened until now do not put it back for that reason, however late they come; where all is
        removed, for any reason: of complaints only with the override, the actor and the note.

        Args:
            address: in any spelling.
            reason: only its entry of this reason; None: all its entries.
            actor: who removes it, for the change log.
            note: why, for the change log.
            override: remove a complaint, too.
            dry_run: change nothing.

        Raises:
            InvalidAddressError: it is not an address.
            NotSuppressedError: there is no such entry.
            ProtectedComplaintError: one is a complaint, and the override, the actor or the note is missing;
                nothing was removed.
        """
        key = self._keys.written(address)
        may_lift_complaints = override and bool(actor.strip()) and bool(note.strip())
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            entries = await reading.read_entries(connection, key, reason=reason)
            if not entries:
                raise NotSuppressedError(
                    f"{address} is not on the list" + (f" for the reason {reason}" if reason else "")
                )
            if not may_lift_complaints and any(entry.reason is Reason.COMPLAINT for entry in entries):
                raise ProtectedComplaintError(
                    f"{address} has complained: to write to it again needs an override, and a note and a name for "
                    "the log"
                )
            if dry_run:
                return entries
            reasons = set(Reason) if reason is None else {reason}
            if not may_lift_complaints:
                reasons.discard(Reason.COMPLAINT)
            await writing.delete_entries(
                connection, entries, reasons=reasons, actor=actor, note=note, now=self._now()
            )
        return entries

    @shielded
    async def history(
        self, address: str, *, limit: int | None = None, after: int | None = None
    ) -> list[Change]:
        """The changes of this address, oldest first.

        Args:
            address: in any spelling.
            limit: the maximum number; None: all.
            after: the id of the last change of the page before.

        Raises:
            InvalidAddressError: it is no address.
        """
        key = self._keys.written(address)
        async with self._database.read() as connection:
            return await reading.read_history(connection, key, limit=limit, after=after)

    @shielded
    async def count_changes(self, address: str) -> int:
        """The number of changes of this address.

        Raises:
            InvalidAddressError: it is no address.
        """
        key = self._keys.written(address)
        async with self._database.read() as connection:
            return await reading.count_changes(connection, key)

    def _now(self) -> int:
        return int(self._clock())

    def _cause(self, event: SuppressingEvent) -> writing.Cause:
        return writing.Cause(
            address=self._keys.written(event.address),
            original=event.address,
            reason=event.reason,
            at=event.event_at,
            event_id=event.event_id,
            message_id=event.message_id,
            evidence=event.evidence,
        )
