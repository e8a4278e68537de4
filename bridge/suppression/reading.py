"""The statements that read the list. The caller has the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, tuple_

from bridge.suppression import bulk, model
from bridge.suppression.changes import change_of
from bridge.suppression.entries import entry_of
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.changes import Change
    from bridge.suppression.current_state import Key
    from bridge.suppression.entries import Entry


async def read_known_addresses(connection: AsyncConnection, message_ids: Collection[str]) -> dict[str, str]:
    """Message id -> address, for the known ones of these ids."""
    table = model.known_messages
    known: dict[str, str] = {}
    for some in bulk.column_in(connection, table.c.message_id, set(message_ids)):
        query = select(table.c.message_id, table.c.address).where(some)
        known.update((row.message_id, row.address) for row in await connection.execute(query))
    return known


async def read_entry(connection: AsyncConnection, key: Key) -> Entry:
    """The entry with this key, which is on the list."""
    table = model.suppressions
    chosen = and_(table.c.address == key[0], table.c.reason == key[1])
    return entry_of((await connection.execute(select(table).where(chosen))).one())


async def read_entries(
    connection: AsyncConnection, address: str, *, reason: Reason | None = None, in_force_at: int | None = None
) -> list[Entry]:
    """The entries of a normalised address, ordered by reason.

    Args:
        connection: to the list.
        address: normalised.
        reason: only the one of this reason.
        in_force_at: Unix seconds; only those that have not expired by then.
    """
    table = model.suppressions
    query = select(table).where(table.c.address == address).order_by(table.c.reason)
    if reason is not None:
        query = query.where(table.c.reason == reason.value)
    if in_force_at is not None:
        query = query.where(or_(table.c.expires_at.is_(None), table.c.expires_at > in_force_at))
    return [entry_of(row) for row in await connection.execute(query)]


async def read_page(
    connection: AsyncConnection, *, reason: Reason | None, limit: int, after: Key | None
) -> list[Entry]:
    """At most `limit` entries behind this one, with expired entries, ordered by address and reason."""
    table = model.suppressions
    query = select(table).order_by(table.c.address, table.c.reason).limit(limit)
    if reason is not None:
        query = query.where(table.c.reason == reason.value)
    if after is not None:
        query = query.where(tuple_(table.c.address, table.c.reason) > tuple_(*after))
    return [entry_of(row) for row in await connection.execute(query)]


async def count_by_reason(connection: AsyncConnection) -> dict[Reason, int]:
    """The number of entries of each reason, with expired ones; 0 for a reason without entries."""
    table = model.suppressions
    query = select(table.c.reason, func.count().label("entries")).group_by(table.c.reason)
    counts = {row.reason: row.entries for row in await connection.execute(query)}
    return {reason: counts.get(reason.value, 0) for reason in Reason}


async def read_history(
    connection: AsyncConnection, address: str, *, limit: int | None, after: int | None
) -> list[Change]:
    """At most `limit` changes of a normalised address, oldest first, behind the one with the id `after`."""
    table = model.changes
    query = select(table).where(table.c.address == address).order_by(table.c.id).limit(limit)
    if after is not None:
        query = query.where(table.c.id > after)
    return [change_of(row) for row in await connection.execute(query)]


async def count_changes(connection: AsyncConnection, address: str) -> int:
    """The number of changes of a normalised address."""
    table = model.changes
    query = select(func.count()).select_from(table).where(table.c.address == address)
    return (await connection.execute(query)).scalar_one()
