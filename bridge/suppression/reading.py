"""The statements that read the list. The caller has the connection."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, func, or_, select, tuple_

from bridge.suppression import bulk, model
from bridge.suppression.changes import change_of
from bridge.suppression.entries import entry_of
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.change import Change
    from bridge.suppression.current_state import Key
    from bridge.suppression.entries import Entry
    from bridge.suppression.list_filter import ListFilter

_PUTTING: Final = frozenset({"added", "updated"})
"""Actions after which an entry is on the list."""
_TAKING: Final = frozenset({"removed", "expired"})
"""Actions after which it is not."""


class StateThen(NamedTuple):
    """What the list said of an address at a time in the past."""

    reasons: tuple[Reason, ...]
    """Those for which it was on the list, ordered; none: it was not suppressed."""
    change: int | None
    """The id of its last change until then; None: it had never been on the list."""


async def read_known_addresses(connection: AsyncConnection, message_ids: Collection[str]) -> dict[str, str]:
    """Message id -> address, for the known ones of these ids."""
    given = {"messages": bulk.one_of(connection, set(message_ids))}
    found = await connection.execute(_known_addresses(connection.dialect.name), given)
    return dict(found.all())


@lru_cache(maxsize=4)
def _known_addresses(dialect: str) -> Select[str, str]:
    known = model.known_messages.c
    return select(known.message_id, known.address).where(
        bulk.is_one_of(dialect, known.message_id, "messages")
    )


async def read_entry(connection: AsyncConnection, key: Key) -> Entry:
    """The entry with this key, which is on the list."""
    table = model.suppressions
    chosen = and_(table.c.address == key[0], table.c.reason == key[1])
    return entry_of((await connection.execute(select(table).where(chosen))).one())


async def read_entries(
    connection: AsyncConnection,
    keys: Collection[str],
    *,
    reason: Reason | None = None,
    in_force_at: int | None = None,
) -> list[Entry]:
    """The entries of one address, ordered by reason.

    Args:
        connection: to the list.
        keys: under which the address may stand.
        reason: only the one of this reason.
        in_force_at: Unix seconds; only those that have not expired by then.
    """
    table = model.suppressions
    query = select(table).where(table.c.address.in_(keys)).order_by(table.c.reason, table.c.address)
    if reason is not None:
        query = query.where(table.c.reason == reason.value)
    if in_force_at is not None:
        query = query.where(or_(table.c.expires_at.is_(None), table.c.expires_at > in_force_at))
    return [entry_of(row) for row in await connection.execute(query)]


async def read_page(
    connection: AsyncConnection, wanted: ListFilter, *, limit: int, after: Key | None
) -> list[Entry]:
    """At most `limit` entries behind this one, with expired entries, ordered by address and reason."""
    table = model.suppressions
    query = select(table).where(wanted.condition()).order_by(table.c.address, table.c.reason).limit(limit)
    if after is not None:
        query = query.where(tuple_(table.c.address, table.c.reason) > tuple_(*after))
    return [entry_of(row) for row in await connection.execute(query)]


async def count_entries(connection: AsyncConnection, wanted: ListFilter) -> int:
    """The number of these entries, with expired ones."""
    query = select(func.count()).select_from(model.suppressions).where(wanted.condition())
    return (await connection.execute(query)).scalar_one()


async def count_by_reason(connection: AsyncConnection) -> dict[Reason, int]:
    """The number of entries of each reason, with expired ones; 0 for a reason without entries."""
    table = model.suppressions
    query = select(table.c.reason, func.count().label("entries")).group_by(table.c.reason)
    counts = {row.reason: row.entries for row in await connection.execute(query)}
    return {reason: counts.get(reason.value, 0) for reason in Reason}


async def read_history(
    connection: AsyncConnection, keys: Collection[str], *, limit: int | None, after: int | None
) -> list[Change]:
    """At most `limit` changes of one address, oldest first, behind the one with the id `after`."""
    table = model.changes
    query = select(table).where(table.c.address.in_(keys)).order_by(table.c.id).limit(limit)
    if after is not None:
        query = query.where(table.c.id > after)
    return [change_of(row) for row in await connection.execute(query)]


async def read_latest_changes(
    connection: AsyncConnection, keys: Collection[str], *, limit: int, before: int | None
) -> list[Change]:
    """At most `limit` changes of one address, newest first, before the one with the id `before`."""
    table = model.changes
    query = select(table).where(table.c.address.in_(keys)).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    return [change_of(row) for row in await connection.execute(query)]


async def count_changes(connection: AsyncConnection, keys: Collection[str]) -> int:
    """The number of changes of one address."""
    table = model.changes
    query = select(func.count()).select_from(table).where(table.c.address.in_(keys))
    return (await connection.execute(query)).scalar_one()


async def read_feed(connection: AsyncConnection, after: int, limit: int) -> list[Change]:
    """At most `limit` changes of all addresses, oldest first, behind the one with the id `after`."""
    table = model.changes
    query = select(table).where(table.c.id > after).order_by(table.c.id).limit(limit)
    return [change_of(row) for row in await connection.execute(query)]


async def read_state_at(connection: AsyncConnection, keys: Collection[str], at: int) -> StateThen:
    """What was on the list for one address at the end of this second (Unix), by the change log."""
    log = model.changes.c
    query = (
        select(log.id, log.action, log.address, log.reason, log.expires_at)
        .where(log.address.in_(keys), log.at <= at)
        .order_by(log.id)
    )
    ends: dict[Key, int | None] = {}
    newest = None
    for change in await connection.execute(query):
        newest = change.id
        if change.action in _PUTTING:
            ends[change.address, change.reason] = change.expires_at
        elif change.action in _TAKING:
            ends.pop((change.address, change.reason), None)
    reasons = {reason for (_, reason), end in ends.items() if end is None or end > at}
    return StateThen(tuple(sorted(map(Reason, reasons))), newest)
