"""A rehearsal of another policy: past events on a list of its own, and how that differs from the list as it is."""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.suppression import current_state, opening, reading
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.entry_rows import later
from bridge.suppression.policy import REASONS
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import event_of_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Self

    from bridge.events import Event
    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.current_state import Key
    from bridge.suppression.database import Database
    from bridge.suppression.entries import Entry
    from bridge.suppression.policy import Policy
    from bridge.suppression.suppressing_events import ListEvent

_ACTOR: Final = "rehearsal"
_PAGE: Final = 500
_NEVER: Final = float("inf")


class PastEvent(NamedTuple):
    """An event of the archive."""

    event: Event
    body: bytes
    """As the provider sent it."""


class ChangedEntry(NamedTuple):
    """An entry that would be on the list, too, but end at another time."""

    before: Entry
    after: Entry


@dataclass(slots=True)
class Difference:
    """What another policy would make of the events. The entries are without evidence."""

    added: list[Entry] = field(default_factory=list)
    """Would be on the list, and are not. Ordered by address and reason, as the others."""
    gone: list[Entry] = field(default_factory=list)
    """Are on the list by these events, and would not be."""
    changed: list[ChangedEntry] = field(default_factory=list)
    same: int = 0
    """How many entries would be as they are."""


class Rehearsal:
    """Records past events with another policy, by the same code as the worker, and compares.

    It begins with an empty list, and what persons have taken off the real one stays off. The real list is only read.
    """

    def __init__(self, real: Database, rehearsed: Database, policy: Policy, keys: AddressKeys) -> None:
        """Use `open` instead."""
        self._databases = real, rehearsed
        self._real = Store(real, keys=keys)
        self._rehearsed = Store(rehearsed, keys=keys, policy=policy)
        self._policy = policy
        self._keys = keys
        self._covered: dict[Key, int] = {}
        """Key of an entry that some policy would make -> time of the oldest of its events that was recorded."""
        self.used = 0
        """How many events the policy uses."""
        self.unknown = 0
        """How many of these are left out, as their address is not known or invalid. The worker would ask the provider."""

    @classmethod
    @asynccontextmanager
    async def open(cls, database_url: str, policy: Policy, *, keys: AddressKeys) -> AsyncIterator[Self]:
        """Open the list of this URL, and an empty one in a temporary file.

        Raises:
            StoreError: the list cannot be read, or there is none (`StoreUnavailableError` where waiting may help).
        """
        async with AsyncExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bridge-rehearsal-")))
            real = await opened.enter_async_context(opening.open_database(database_url, create=False))
            url = f"sqlite+aiosqlite:///{folder}/list.sqlite3"
            rehearsed = await opened.enter_async_context(opening.open_database(url, create=True))
            yield cls(real, rehearsed, policy, keys)

    async def record(self, past: Sequence[PastEvent]) -> None:
        """Record these events. One that comes twice counts once.

        Raises:
            StoreError: the list cannot be read, or the rehearsed one not be written.
        """
        known = await self._real.known_addresses({event.message_id for event, _ in past})
        happened: list[ListEvent] = []
        for event, body in past:
            used = self._policy.uses(event.name)
            address = known.get(event.message_id)
            key = None if address is None else self._key(address)
            if key is not None and (reason := REASONS.get(event.name)) is not None:
                oldest = self._covered.get((key, reason), event.timestamp)
                self._covered[key, reason] = min(oldest, event.timestamp)
            if not used:
                continue
            if key is not None and address is not None:
                self.used += 1
                happened.append(event_of_address(event, address, body, policy=self._policy))
            elif not self._policy.uses_delivery(event.name):  # of those the worker leaves out the same
                self.used += 1
                self.unknown += 1
        if happened:
            await self._keep_off({self._keys.written(one.address) for one in happened})
            await self._rehearsed.record(happened, actor=_ACTOR)

    def _key(self, address: str) -> str | None:
        try:
            return self._keys.written(address)
        except InvalidAddressError:
            return None

    async def _keep_off(self, addresses: set[str]) -> None:
        """What a person has taken off the list stays off the rehearsed one, too."""
        real, rehearsed = self._databases
        async with real.read() as connection:
            lifted = await current_state.read_liftings(connection, addresses)
        if lifted:
            async with rehearsed.write() as connection:
                await current_state.record_liftings(connection, lifted)

    async def difference(self) -> Difference:
        """How the rehearsed list differs from the real one, as far as these events are concerned.

        An entry of the real list that a person has made, or events that were not recorded here, would stay.

        Raises:
            StoreError: one of them cannot be read.
        """
        found = Difference()
        addresses = sorted({address for address, _ in self._covered})
        for start in range(0, len(addresses), _PAGE):
            some = addresses[start : start + _PAGE]
            before, after = [await self._entries(database, some) for database in self._databases]
            for key in sorted(before.keys() | after.keys()):
                self._compare(key, before.get(key), after.get(key), found)
        return found

    async def _entries(self, database: Database, addresses: Sequence[str]) -> dict[Key, Entry]:
        async with database.read() as connection:
            entries = await reading.read_entries(connection, addresses, in_force_at=int(time.time()))
        return {(entry.address, entry.reason): replace(entry, evidence=None) for entry in entries}

    def _compare(self, key: Key, before: Entry | None, after: Entry | None, found: Difference) -> None:
        if before is None:
            if after is not None:
                found.added.append(after)
            return
        # Else a person or older events have made it, too: their part of it stays.
        judged = before.message_id is not None and before.first_event_at >= self._covered.get(key, _NEVER)
        if after is None:
            if judged:
                found.gone.append(before)
            else:
                found.same += 1
            return
        end = after.expires_at if judged else later(before.expires_at, after.expires_at)
        if end == before.expires_at:
            found.same += 1
        else:
            found.changed.append(ChangedEntry(before, replace(after, expires_at=end)))
