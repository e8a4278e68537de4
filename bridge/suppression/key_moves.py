"""Moves what stands under one key of an address to another: to its hash, or to the hash by a newer privacy key.

The tables of messages that are known are not meant: they are found by the message, and grow old.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import delete, insert, select, update

from bridge.suppression import bulk, current_state, model
from bridge.suppression.address_keys import domain_of, is_hash
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Column, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.suppressing_events import Delivered
    from bridge.suppression.writing import Cause

    Row = dict[str, Any]

KEY_COLUMNS: Final = (
    model.suppressions.c.address,
    model.liftings.c.address,
    model.deliveries.c.address,
    model.soft_bounces.c.address,
    model.allow_rules.c.pattern,
    model.erasures.c.key,
    model.changes.c.address,
)
"""Where keys stand by which a row can be found."""

_SIGNS_OF_ADDRESSES: Final = (b"@", b"%40", b"\\u0040")


class Place(NamedTuple):
    """Where what concerns an address is written."""

    key: str
    erased: bool
    """Whether the person was erased: then nothing that leads to the address is written."""


async def places(
    connection: AsyncConnection, keys: AddressKeys, addresses: Collection[str]
) -> dict[str, Place]:
    """Address -> where to write what concerns it. What stands under an older key of it is moved there first.

    Args:
        connection: in a transaction that writes, and that has not yet read or changed any entry.
        keys: under which keys addresses may stand.
        addresses: in any spelling, or hashes.

    Raises:
        InvalidAddressError: one is not an address.
    """
    if not keys.privacy_keys or not (keys.hashes or await _any_erasure(connection)):
        return {address: Place(keys.written(address), erased=False) for address in addresses}
    candidates = {address: keys.looked_up(address) for address in addresses}
    hashed = {address: next(filter(is_hash, found)) for address, found in candidates.items()}
    known = {key for found in candidates.values() for key in found}
    erased = await _present(connection, [model.erasures.c.key], {key for key in known if is_hash(key)})
    erased_addresses = {address for address, found in candidates.items() if not erased.isdisjoint(found)}
    hashing = set(candidates) if keys.hashes else erased_addresses
    older = {key: hashed[address] for address in hashing for key in candidates[address]}
    older = {key: new for key, new in older.items() if key != new}
    present = await _present(connection, KEY_COLUMNS, older)
    if present:
        await current_state.exclude_writers(connection)
        await move(connection, {key: older[key] for key in present})
    return {
        address: Place(
            hashed[address] if address in hashing else candidates[address][0], address in erased_addresses
        )
        for address in candidates
    }


async def placed(connection: AsyncConnection, keys: AddressKeys, causes: Sequence[Cause]) -> list[Cause]:
    """The causes under the keys where they are to be written, without what may not be kept beside a hash.

    Args:
        connection: in a transaction that writes, and that has not yet read or changed any entry.
        keys: under which keys addresses may stand.
        causes: each with its address in `original`.
    """
    if not keys.privacy_keys:
        return list(causes)
    found = await places(connection, keys, {cause.original for cause in causes})
    return [_beside(found[cause.original], cause, keys) for cause in causes]


async def placed_messages(
    connection: AsyncConnection, keys: AddressKeys, addresses: Mapping[str, str]
) -> dict[str, str]:
    """Message id -> what is stored as its address: the hash, where only that is kept, or where the person was erased.

    What is no address is left out there: the provider is asked again when an event comes.
    """
    if not keys.privacy_keys:
        return dict(addresses)
    valid = {message: address for message, address in addresses.items() if _is_valid(keys, address)}
    found = await places(connection, keys, set(valid.values()))
    hashed = {message: found[address].key for message, address in valid.items()}
    return {
        message: hashed[message] if message in hashed and is_hash(hashed[message]) else address
        for message, address in addresses.items()
        if message in hashed or not keys.hashes
    }


async def placed_deliveries(
    connection: AsyncConnection, keys: AddressKeys, deliveries: Mapping[str, Delivered]
) -> dict[str, Delivered]:
    """Key -> the delivery, as `placed`. Args: as there; a key -> the delivery, with its address in any spelling."""
    if not keys.privacy_keys:
        return dict(deliveries)
    found = await places(connection, keys, {one.address for one in deliveries.values()})
    return {
        found[one.address].key: one
        if not is_hash(found[one.address].key)
        else _delivered(found[one.address], one)
        for one in deliveries.values()
    }


def _delivered(place: Place, delivered: Delivered) -> Delivered:
    if place.erased:
        return replace(delivered, message_id="", evidence=b"")
    return replace(delivered, evidence=evidence_beside(place.key, delivered.evidence) or b"")


def _is_valid(keys: AddressKeys, address: str) -> bool:
    try:
        keys.written(address)
    except InvalidAddressError:
        return False
    return True


def hidden_message(keys: AddressKeys, message_id: str) -> str:
    """What stands for a message of an erased person where messages must be told apart."""
    return message_id if is_hash(message_id) else keys.privacy_keys[0].hash(f"message {message_id}")


def _beside(place: Place, cause: Cause, keys: AddressKeys) -> Cause:
    if not is_hash(place.key):
        return cause
    message_id = cause.message_id
    if place.erased and message_id is not None:
        message_id = hidden_message(keys, message_id) if cause.reason is Reason.SOFT_BOUNCE else None
    return cause._replace(
        address=place.key,
        original="",
        message_id=message_id,
        evidence=None if place.erased else evidence_beside(place.key, cause.evidence),
    )


async def move(connection: AsyncConnection, moves: Mapping[str, str]) -> None:
    """Move all that stands under some keys to others; rows that meet become one. The caller has excluded other writers.

    Args:
        connection: in a transaction that writes.
        moves: old key -> new one, at most some hundreds.
    """
    if not moves:
        return
    await _move_rows(connection, model.suppressions, ("address", "reason"), moves, _one_entry)
    await _move_rows(connection, model.liftings, ("address", "reason"), moves, _latest("lifted_at"))
    await _move_rows(connection, model.deliveries, ("address",), moves, _latest("delivered_at"))
    await _move_rows(connection, model.soft_bounces, ("address", "event_id"), moves, _first)
    await _move_rows(connection, model.allow_rules, ("pattern",), moves, _first)
    await _move_rows(connection, model.erasures, ("key",), moves, _first)
    await _move_changes(connection, moves)


def evidence_beside(key: str, evidence: bytes | None) -> bytes | None:
    """What is kept of a raw event beside this key: beside a hash no event that has anything like an address in it.

    The provider's events have none. They name the message, and only who may ask the provider learns the address from that.
    """
    if evidence is None or not is_hash(key):
        return evidence
    return None if any(sign in evidence for sign in _SIGNS_OF_ADDRESSES) else evidence


async def _any_erasure(connection: AsyncConnection) -> bool:
    return await connection.scalar(select(model.erasures.c.key).limit(1)) is not None


async def _present(
    connection: AsyncConnection, columns: Sequence[Column[Any]], keys: Collection[str]
) -> set[str]:
    """Those of the keys that stand in one of the columns."""
    found: set[str] = set()
    for column in columns:
        for some in bulk.column_in(connection, column, keys):
            found.update(await connection.scalars(select(column).where(some).distinct()))
    return found


async def _move_rows(
    connection: AsyncConnection,
    table: Table,
    key_names: tuple[str, ...],
    moves: Mapping[str, str],
    merged: Callable[[Sequence[Row]], Row],
) -> None:
    """Move the rows of one table. Those of the same new key (the first of the names is the address) become one."""
    column = table.c[key_names[0]]
    if not await _present(connection, [column], moves):
        return
    concerned = {*moves, *moves.values()}
    meeting: dict[tuple[str, ...], list[Row]] = {}
    for some in bulk.column_in(connection, column, concerned):
        for found in (await connection.execute(select(table).where(some))).mappings():
            row = _rekeyed(dict(found), column.name, moves)
            meeting.setdefault(tuple(row[name] for name in key_names), []).append(row)
    for some in bulk.column_in(connection, column, concerned):
        await connection.execute(delete(table).where(some))
    await connection.execute(insert(table), [merged(rows) for rows in meeting.values()])


def _rekeyed(row: Row, name: str, moves: Mapping[str, str]) -> Row:
    key = moves.get(row[name], row[name])
    row[name] = key
    if is_hash(key):
        row |= {column: "" for column in ("original", "domain") if column in row}
    elif "domain" in row:
        row["domain"] = domain_of(key)
    if "evidence" in row:
        row["evidence"] = evidence_beside(key, row["evidence"])
    return row


def _one_entry(rows: Sequence[Row]) -> Row:
    """What the list would hold if they had always been one: what first caused it stays, the longest term wins."""
    ends = [row["expires_at"] for row in rows]
    return min(rows, key=lambda row: (row["first_event_at"], row["created_at"])) | {
        "first_event_at": min(row["first_event_at"] for row in rows),
        "last_event_at": max(row["last_event_at"] for row in rows),
        "count": sum(row["count"] for row in rows),
        "created_at": min(row["created_at"] for row in rows),
        "updated_at": max(row["updated_at"] for row in rows),
        "expires_at": None if None in ends else max(ends),
    }


def _latest(name: str) -> Callable[[Sequence[Row]], Row]:
    return lambda rows: max(rows, key=lambda row: row[name])


def _first(rows: Sequence[Row]) -> Row:
    return rows[0]


async def _move_changes(connection: AsyncConnection, moves: Mapping[str, str]) -> None:
    table = model.changes
    present = await _present(connection, [table.c.address], moves)
    for old in sorted(present):
        query = select(table.c.id, table.c.evidence).where(
            table.c.address == old, table.c.evidence.is_not(None)
        )
        naming = [
            row.id for row in await connection.execute(query) if _names_address(moves[old], row.evidence)
        ]
        for some in bulk.column_in(connection, table.c.id, naming):
            await connection.execute(update(table).where(some).values(evidence=None))
        await connection.execute(update(table).where(table.c.address == old).values(address=moves[old]))


def _names_address(key: str, evidence: bytes) -> bool:
    return evidence_beside(key, evidence) is None
