"""Makes hashes of the addresses of a list that has kept them until now, and counts what stands under which key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, delete, func, not_, select, update

from bridge.suppression import bulk, current_state, model
from bridge.suppression.address_keys import SCHEME
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.database import shielded
from bridge.suppression.errors import NoPrivacyKeyError
from bridge.suppression.key_moves import KEY_COLUMNS, move

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.database import Database

PLAIN_TEXT: Final = ""
"""The id of the key under which addresses in plain text are counted."""
_AT_ONCE: Final = 100
"""Addresses that are hashed in one transaction: others wait for some milliseconds."""
_MESSAGES_AT_ONCE: Final = 1_000

_COUNTED: Final = {
    "entries": model.suppressions.c.address,
    "changes": model.changes.c.address,
    "removals": model.liftings.c.address,
    "erased": model.erasures.c.key,
    "known_messages": model.known_messages.c.address,
}


class KeyCount(NamedTuple):
    """What stands under one privacy key."""

    key_id: str
    """`PLAIN_TEXT` for addresses; `?` for hashes by a key that is not among the settings."""
    rows: dict[str, int]
    """What -> in how many rows."""


class Hashing:
    """The way from addresses to hashes. Every method may raise `StoreError`."""

    def __init__(self, database: Database, keys: AddressKeys) -> None:
        """Args: the list's database; under which key each address stands."""
        self._database = database
        self._keys = keys

    async def hash_all(self, progress: Callable[[int], None]) -> int:
        """Put a hash in the place of each address. Returns how many addresses there were, and messages to them.

        In small transactions: the list can be used meanwhile. What was interrupted goes on where it is called again.

        Args:
            progress: called after each transaction with how many have been hashed by it.

        Raises:
            NoPrivacyKeyError: the settings do not say that only hashes are kept.
        """
        if not self._keys.hashes:
            raise NoPrivacyKeyError(
                "the list keeps addresses by its settings: set suppression.privacy = hmac, with privacy_keys, for all "
                "roles, and start them anew; then hash what is there"
            )
        hashed = 0
        for column in KEY_COLUMNS:
            hashed += await self._hash_column(column, progress)
        hashed += await self._hash_messages(progress)
        await self._database.discard_deleted()
        return hashed

    @shielded
    async def lacks_keys(self) -> bool:
        """Whether there are hashes on the list, or persons who were erased, and no privacy key by which to find them."""
        if self._keys.privacy_keys:
            return False
        async with self._database.read() as connection:
            for column in (model.erasures.c.key, model.suppressions.c.address):
                some = select(column).where(column >= f"{SCHEME}:", column < f"{SCHEME};").limit(1)
                if await connection.scalar(some) is not None:
                    return True
        return False

    async def count_keys(self) -> list[KeyCount]:
        """How many rows stand under each key: a key of which there are none is not needed any more."""
        ids = [key.id for key in self._keys.privacy_keys]
        counts = [KeyCount(one, await self._count(f"{SCHEME}:{one}:")) for one in ids]
        hashes = await self._count(f"{SCHEME}:")
        known = {what: sum(count.rows[what] for count in counts) for what in _COUNTED}
        other = {what: hashes[what] - known[what] for what in _COUNTED}
        if any(other.values()):
            counts.append(KeyCount("?", other))
        every = await self._count("")
        plain = {what: every[what] - hashes[what] for what in _COUNTED}
        return [KeyCount(PLAIN_TEXT, plain), *counts]

    async def _count(self, prefix: str) -> dict[str, int]:
        """What -> in how many rows stands a key that begins with this."""
        found = {}
        for what, column in _COUNTED.items():
            query = select(func.count()).select_from(column.table)
            if prefix:
                query = query.where(column.startswith(prefix, autoescape=True))
            async with self._database.read() as connection:
                found[what] = (await connection.execute(query)).scalar_one()
        return found

    async def _hash_column(self, column: Column[Any], progress: Callable[[int], None]) -> int:
        after, hashed = "", 0
        while addresses := await self._plain_addresses(column, after):
            await self._hash(addresses)
            after = addresses[-1]
            hashed += len(addresses)
            progress(len(addresses))
        return hashed

    @shielded
    async def _plain_addresses(self, column: Column[Any], after: str) -> list[str]:
        """The next addresses. Hashes stand between them in the order of the index: they are passed over once."""
        is_hash = and_(column >= f"{SCHEME}:", column < f"{SCHEME};")
        query = (
            select(column)
            .where(column > after, not_(is_hash), column.contains("@"))
            .distinct()
            .order_by(column)
            .limit(_AT_ONCE)
        )
        async with self._database.read() as connection:
            return list(await connection.scalars(query))

    @shielded
    async def _hash(self, addresses: Sequence[str]) -> None:
        moves = {}
        for address in addresses:
            try:
                moves[address] = self._keys.written(address)
            except InvalidAddressError:
                continue  # it stays as it is: it is on the list, whatever it is
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            await self._database.overwrite_deleted(connection)
            await move(connection, moves)

    async def _hash_messages(self, progress: Callable[[int], None]) -> int:
        after, hashed = "", 0
        while rows := await self._plain_messages(after):
            await self._hash_of_messages(rows)
            after = rows[-1][0]
            hashed += len(rows)
            progress(len(rows))
        return hashed

    @shielded
    async def _plain_messages(self, after: str) -> list[tuple[str, str]]:
        table = model.known_messages
        query = (
            select(table.c.message_id, table.c.address)
            .where(table.c.message_id > after, not_(table.c.address.startswith(f"{SCHEME}:")))
            .order_by(table.c.message_id)
            .limit(_MESSAGES_AT_ONCE)
        )
        async with self._database.read() as connection:
            return [(row.message_id, row.address) for row in await connection.execute(query)]

    @shielded
    async def _hash_of_messages(self, rows: Sequence[tuple[str, str]]) -> None:
        table = model.known_messages
        hashed, invalid = [], []
        for message_id, address in rows:
            try:
                hashed.append({"message": message_id, "was": address, "hash": self._keys.written(address)})
            except InvalidAddressError:
                invalid.append(message_id)
        ours = and_(table.c.message_id == bindparam("message"), table.c.address == bindparam("was"))
        async with self._database.write() as connection:
            await self._database.overwrite_deleted(connection)
            if hashed:
                await connection.execute(update(table).where(ours).values(address=bindparam("hash")), hashed)
            for some in bulk.column_in(connection, table.c.message_id, invalid):
                await connection.execute(delete(table).where(some))
