"""Erases a person: of the address, only a keyed hash and the reasons stay, so that the person stays suppressed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression import bulk, current_state, erased_texts, model
from bridge.suppression.address_keys import PLAIN, is_hash
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.change_log import NewChange, append_changes
from bridge.suppression.database import shielded
from bridge.suppression.errors import NoPrivacyKeyError
from bridge.suppression.key_moves import hidden_message, move

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.database import Database

_PAGE: Final = 5_000
"""Known messages that are read at once: nobody else waits for that."""

_OF_THE_PERSON: Final = {
    "entries": model.suppressions.c.address,
    "changes": model.changes.c.address,
    "liftings": model.liftings.c.address,
    "soft bounces": model.soft_bounces.c.address,
    "deliveries": model.deliveries.c.address,
    "allow rules": model.allow_rules.c.pattern,
}
"""What is counted -> the column in which the person's key stands."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, or would be."""

    key: str
    """The hash that stands for the person from now on."""
    reasons: tuple[str, ...]
    """Those for which the person stays suppressed."""
    found: dict[str, int] = field(default_factory=dict)
    """What -> in how many rows the address or a raw event of it stood. Of texts and answers only after the erasure."""
    repeated: bool = False
    """Whether the person was erased before: then nothing was logged."""

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "key": self.key,
            "reasons": list(self.reasons),
            "found": self.found,
            "erased_before": self.repeated,
        }


class Erasures:
    """Erases persons. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(self, database: Database, clock: Callable[[], float], keys: AddressKeys) -> None:
        """Args: the list's database; the time in Unix seconds; under which key each address stands."""
        self._database = database
        self._clock = clock
        self._keys = keys

    async def erase(self, address: str, *, actor: str, note: str = "") -> Erased:
        """Erase a person from the list, its history, its evidence, and all else that is in the database.

        What is on the list stays under the hash, without the raw event and its message; later events are counted there.
        The change log gets a change `erased`, which is published. An erasure that was interrupted is made again.

        A database keeps what was deleted until its pages are used anew: see `Database.vacuum`.

        Args:
            address: in any spelling, or its hash: then texts in which the address stands are not found.
            actor: who erases it, for the change log.
            note: why, for the change log.

        Raises:
            InvalidAddressError: it is not an address.
            NoPrivacyKeyError: there is no privacy key to make the hash.
        """
        key, keys = self._keys_of(address)
        erased = await self._erase_rows(key, keys, actor=actor, note=self._without(address, note, key))
        spellings = self._spellings(address)
        messages, written = await self._known_messages(keys)
        spellings |= written
        await self._forget(messages)
        texts = await erased_texts.erase(self._database, spellings, key)
        await self._database.discard_deleted()
        found = erased.found | {"known messages": erased.found["known messages"] + len(messages)} | texts
        return Erased(erased.key, erased.reasons, found, erased.repeated)

    async def preview(self, address: str) -> Erased:
        """What `erase` would do. This only reads.

        Raises:
            InvalidAddressError, NoPrivacyKeyError: as `erase`.
        """
        key, keys = self._keys_of(address)
        messages, _ = await self._known_messages(keys)
        async with self._database.read() as connection:
            found = await _count(connection, keys)
            reasons = await self._reasons(connection, keys)
            repeated = await _is_erased(connection, keys)
        return Erased(key, reasons, found | {"known messages": len(messages)}, repeated)

    async def message_ids(self, address: str) -> set[str]:
        """The ids of all messages to this address that the list knows: its raw events name them.

        Raises:
            InvalidAddressError, NoPrivacyKeyError: as `erase`.
        """
        _, keys = self._keys_of(address)
        messages, _ = await self._known_messages(keys)
        async with self._database.read() as connection:
            return messages | await _messages_of(connection, keys)

    def _keys_of(self, address: str) -> tuple[str, tuple[str, ...]]:
        """The hash that stays, and every key under which the address may stand now."""
        if not self._keys.privacy_keys:
            raise NoPrivacyKeyError(
                "to erase a person the list needs a key: set suppression.privacy_keys to ID:SECRET, as "
                "`echo k1:$(openssl rand -hex 32)` makes it, for all roles, and keep it as well as the list"
            )
        keys = self._keys.looked_up(address)
        return next(filter(is_hash, keys)), keys

    def _spellings(self, address: str) -> set[str]:
        return (
            set() if is_hash(address) else {address.strip(), *filter(_is_address, self._keys_of(address)[1])}
        )

    def _without(self, address: str, note: str, key: str) -> str:
        return erased_texts.replaced(note, erased_texts.pattern_of(self._spellings(address)), key)

    @shielded
    async def _erase_rows(self, key: str, keys: tuple[str, ...], *, actor: str, note: str) -> Erased:
        """All that stands under the person's key, in one transaction."""
        now = int(self._clock())
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            await self._database.overwrite_deleted(connection)
            found = await _count(connection, keys)
            repeated = await _is_erased(connection, keys)
            messages = await _messages_of(connection, keys)
            found["known messages"] = await _forget(connection, messages)
            await move(connection, {old: key for old in keys if old != key})
            await _strip(connection, key, self._keys)
            reasons = await self._reasons(connection, (key,))
            if not repeated:
                await connection.execute(
                    _insert_erasure(connection, key=key, erased_at=now, actor=actor, note=note)
                )
                change = NewChange("erased", key, None, ",".join(reasons), note=note)
                await append_changes(connection, [change], actor=actor, now=now)
        return Erased(key, reasons, found, repeated)

    async def _reasons(self, connection: AsyncConnection, keys: tuple[str, ...]) -> tuple[str, ...]:
        state = await current_state.read(connection, keys)
        now = int(self._clock())
        return tuple(sorted({one for key in keys for one in state.reasons(key, now).split(",") if one}))

    async def _known_messages(self, keys: tuple[str, ...]) -> tuple[set[str], set[str]]:
        """The messages to this person, and the spellings of the address that are stored with them. It reads them all."""
        messages: set[str] = set()
        spellings: set[str] = set()
        ours = set(keys)
        # The plain key is among ours, unless the person is known by a hash only: then each address has to be hashed.
        keys_of = self._keys.looked_up if all(map(is_hash, keys)) else _plain_key
        async for message_id, address in self._all_known_messages():
            try:
                theirs = keys_of(address)
            except InvalidAddressError:
                continue
            if not ours.isdisjoint(theirs):
                messages.add(message_id)
                if not is_hash(address):
                    spellings.add(address)
        return messages, spellings

    async def _all_known_messages(self) -> AsyncIterator[tuple[str, str]]:
        table = model.known_messages
        page = select(table.c.message_id, table.c.address).order_by(table.c.message_id).limit(_PAGE)
        rows: list[Any] = await self._read(page)
        while rows:
            for message_id, address in rows:
                yield message_id, address
            rows = await self._read(page.where(table.c.message_id > rows[-1].message_id))

    @shielded
    async def _read(self, query: Any) -> list[Any]:
        async with self._database.read() as connection:
            return list(await connection.execute(query))

    @shielded
    async def _forget(self, messages: Collection[str]) -> None:
        if messages:
            async with self._database.write() as connection:
                await self._database.overwrite_deleted(connection)
                await _forget(connection, messages)


async def _strip(connection: AsyncConnection, key: str, keys: AddressKeys) -> None:
    """Take from the rows under this hash what leads back to the person. A rule that allows the address goes entirely."""
    entries, changes, bounces = model.suppressions, model.changes, model.soft_bounces
    for table in (entries, changes):
        ours = table.c.address == key
        await connection.execute(update(table).where(ours).values(message_id=None, evidence=None))
    await connection.execute(update(changes).where(changes.c.address == key).values(trace=None))
    # Bounces of one message count once: a hash of its id tells messages apart as well.
    for message in await connection.scalars(
        select(bounces.c.message_id).where(bounces.c.address == key).distinct()
    ):
        of_it = (bounces.c.address == key, bounces.c.message_id == message)
        hidden = hidden_message(keys, message)
        await connection.execute(update(bounces).where(*of_it).values(message_id=hidden, evidence=None))
    await connection.execute(delete(model.allow_rules).where(model.allow_rules.c.pattern == key))


async def _count(connection: AsyncConnection, keys: Collection[str]) -> dict[str, int]:
    found = {}
    for name, column in _OF_THE_PERSON.items():
        query = select(func.count()).select_from(column.table).where(column.in_(keys))
        found[name] = (await connection.execute(query)).scalar_one()
    return found


async def _is_erased(connection: AsyncConnection, keys: Collection[str]) -> bool:
    table = model.erasures
    return await connection.scalar(select(table.c.key).where(table.c.key.in_(keys)).limit(1)) is not None


async def _messages_of(connection: AsyncConnection, keys: Collection[str]) -> set[str]:
    found: set[str] = set()
    for table in (model.suppressions, model.changes, model.soft_bounces):
        query = select(table.c.message_id).where(table.c.address.in_(keys), table.c.message_id.is_not(None))
        found.update(await connection.scalars(query))
    return {one for one in found if not is_hash(one)}


async def _forget(connection: AsyncConnection, messages: Collection[str]) -> int:
    table = model.known_messages
    deleted = 0
    for some in bulk.column_in(connection, table.c.message_id, messages):
        deleted += (await connection.execute(delete(table).where(some))).rowcount
    return deleted


def _insert_erasure(connection: AsyncConnection, **row: Any) -> Any:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(model.erasures).values(**row).on_conflict_do_nothing(index_elements=[model.erasures.c.key])


def _plain_key(address: str) -> tuple[str, ...]:
    return (PLAIN.written(address),)


def _is_address(key: str) -> bool:
    return not is_hash(key)
