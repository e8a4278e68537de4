"""What the list answers: may one write to an address, what is on the list, what was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.suppression import checking, list_filter, pruning, reading
from bridge.suppression.address_keys import is_hash
from bridge.suppression.addresses import normalise_many
from bridge.suppression.allow_list import rules_for
from bridge.suppression.database import shielded
from bridge.suppression.errors import LogTooShortError
from bridge.suppression.list_part import ListPart
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.allow_list import AllowRule
    from bridge.suppression.change import Change
    from bridge.suppression.checking import Checked
    from bridge.suppression.entries import Entry
    from bridge.suppression.list_filter import ListFilter
    from bridge.suppression.policy import Reason
    from bridge.suppression.reading import StateThen


class ListReader(ListPart):
    """The questions to the list. None of them waits for a writer."""

    @shielded
    async def check_many(self, addresses: Sequence[str]) -> list[Checked]:
        """May one write to these addresses? An answer for each, in order, by one query.

        Args:
            addresses: in any spelling. One that is no address gets an answer with an error.
        """
        normalised = [
            given if not isinstance(one, str) and is_hash(given) else one
            for given, one in zip(addresses, normalise_many(addresses), strict=True)
        ]
        valid = {one for one in normalised if isinstance(one, str)}
        further = self._keys.further_keys(valid)
        async with self._database.read_autocommit() as connection:
            found = await checking.read_in_force(self._database, connection, valid, further, self._now())
            keys_of = {address: self._keys.looked_up(address) for address in found.in_force if found.rules}
            rules = await rules_for(connection, keys_of) if keys_of else {}
        for key in further.keys() & valid:  # the hash of an address that was given, too
            if further[key] in found.in_force:
                found.in_force[key] = found.in_force[further[key]]
        return checking.answers(normalised, found.in_force, rules)

    @shielded
    async def check(self, address: str) -> list[Entry]:
        """The entries that suppress this address now: without expired ones, and those over which the allow-list wins.

        Raises:
            InvalidAddressError: it is not an address.
        """
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            entries = await reading.read_entries(connection, keys, in_force_at=self._now())
            rule = await _rule_of(connection, keys) if entries else None
        return [entry for entry in entries if rule is None or not rule.allows(entry.reason)]

    @shielded
    async def entries_of(self, address: str) -> list[Entry]:
        """All entries of this address, ordered by reason: also expired ones, and those over which the allow-list wins.

        Raises:
            InvalidAddressError: it is not an address.
        """
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            return await reading.read_entries(connection, keys)

    @shielded
    async def entries(
        self, wanted: ListFilter = list_filter.ALL, *, limit: int, after: tuple[str, str] | None = None
    ) -> list[Entry]:
        """One page of the list, with expired entries, ordered by address and reason.

        Args:
            wanted: which of them.
            limit: the maximum number.
            after: address and reason of the last entry of the page before; it need not be on the list any more.
        """
        async with self._database.read() as connection:
            return await reading.read_page(connection, wanted, limit=limit, after=after)

    @shielded
    async def count(self, wanted: ListFilter = list_filter.ALL) -> int:
        """The number of these entries, with expired ones. The database counts them one by one."""
        async with self._database.read() as connection:
            return await reading.count_entries(connection, wanted)

    @shielded
    async def count_by_reason(self) -> dict[Reason, int]:
        """The number of entries of each reason, with expired ones; 0 for a reason without entries."""
        async with self._database.read() as connection:
            return await reading.count_by_reason(connection)

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
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            return await reading.read_history(connection, keys, limit=limit, after=after)

    @shielded
    async def count_changes(self, address: str) -> int:
        """The number of changes of this address.

        Raises:
            InvalidAddressError: it is no address.
        """
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            return await reading.count_changes(connection, keys)

    @shielded
    async def suppressed_at(self, address: str, at: int) -> StateThen:
        """What the list said of this address at a time in the past, by the change log.

        Args:
            address: in any spelling.
            at: Unix seconds. All changes of that second count.

        Raises:
            InvalidAddressError: it is no address.
            LogTooShortError: the log does not go back so far.
        """
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            since = await pruning.read_mark(connection, pruning.LOG_MARK)
            if since is not None and at < since:
                raise LogTooShortError(
                    f"what was on the list then is not known any more: the change log is complete since {rfc3339(since)} "
                    "only (retention.changes_days)"
                )
            return await reading.read_state_at(connection, keys, at)

    @shielded
    async def feed(self, after: int, limit: int) -> list[Change]:
        """Changes of all addresses, oldest first. Whoever goes on behind the last one misses none.

        Args:
            after: the id of the last change that is known; 0: from the beginning.
            limit: the maximum number.
        """
        async with self._database.read() as connection:
            return await reading.read_feed(connection, after, limit)

    @shielded
    async def known_addresses(self, message_ids: Collection[str]) -> dict[str, str]:
        """Message id -> address, for the known ones of these ids."""
        async with self._database.read() as connection:
            return await reading.read_known_addresses(connection, message_ids)


async def _rule_of(connection: AsyncConnection, keys: Sequence[str]) -> AllowRule | None:
    """The rule of the allow-list that holds for the address with these keys."""
    spelling = next((key for key in keys if not is_hash(key)), keys[0])
    return (await rules_for(connection, {spelling: keys})).get(spelling)
