"""The statements that delete what has grown old, some rows at a time. The caller ends the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, exists, func, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression import bulk, model

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

EVIDENCE_MARK: Final = "evidence pruned to change"
"""The id of the last change whose evidence was deleted, or that had none."""
CHANGES_MARK: Final = "changes pruned to"
"""When the newest change was made that was deleted, Unix seconds."""

_ESTIMATE: Final = text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)")
_FEW_ROWS: Final = 100_000
"""So many are counted in some milliseconds."""


async def delete_handled_events(connection: AsyncConnection, before: int, limit: int) -> int:
    """Event ids that were handled before this time (Unix seconds), at most so many. Returns how many."""
    table = model.handled_events
    return await _delete_oldest(connection, table, table.c.handled_at, before, limit)


async def delete_known_messages(connection: AsyncConnection, before: int, limit: int) -> int:
    """Messages that have been known since before this time."""
    table = model.known_messages
    return await _delete_oldest(connection, table, table.c.known_at, before, limit)


async def delete_soft_bounces(connection: AsyncConnection, before: int, limit: int) -> int:
    """Soft bounces of addresses that have had none since: older ones decide how long newer ones suppress."""
    table, newer = model.soft_bounces, model.soft_bounces.alias("newer")
    none_since = ~exists().where(newer.c.address == table.c.address, newer.c.at >= before)
    return await _delete_oldest(connection, table, table.c.at, before, limit, none_since)


async def delete_deliveries(connection: AsyncConnection, before: int, limit: int) -> int:
    """Deliveries to addresses of which no soft bounce is known any more."""
    table, bounces = model.deliveries, model.soft_bounces
    no_bounce = ~exists().where(bounces.c.address == table.c.address)
    return await _delete_oldest(connection, table, table.c.delivered_at, before, limit, no_bounce)


async def delete_idempotent_requests(connection: AsyncConnection, before: int, limit: int) -> int:
    """Requests that were made before this time, and their answers."""
    table = model.idempotent_requests
    return await _delete_oldest(connection, table, table.c.made_at, before, limit)


async def delete_imports(connection: AsyncConnection, before: int, limit: int) -> int:
    """Imports that have ended before this time."""
    table = model.imports
    return await _delete_oldest(connection, table, table.c.finished_at, before, limit)


async def delete_changes(connection: AsyncConnection, before: int, limit: int) -> int:
    """Changes that were made before this time, and published: of the oldest `limit` ones."""
    table = model.changes
    oldest = select(table.c.id, table.c.at, table.c.published_at).order_by(table.c.id).limit(limit)
    old = [
        row for row in await connection.execute(oldest) if row.at < before and row.published_at is not None
    ]
    if not old:
        return 0
    for some in bulk.column_in(connection, table.c.id, [row.id for row in old]):
        await connection.execute(delete(table).where(some))
    await _set_mark(connection, CHANGES_MARK, max(row.at for row in old))
    return len(old)


async def delete_evidence(connection: AsyncConnection, before: int, limit: int) -> int:
    """The raw events of the next `limit` changes that were made before this time, and of entries made then by these.

    Each entry was made by a change, so who goes through the changes, from where the last one stopped, finds all of them.
    Returns how many changes it went through.
    """
    changes, entries = model.changes, model.suppressions
    mark = await read_mark(connection, EVIDENCE_MARK) or 0
    oldest = select(changes.c.id, changes.c.at).where(changes.c.id > mark).order_by(changes.c.id).limit(limit)
    old = []
    for row in await connection.execute(oldest):
        if row.at >= before:
            break
        old.append(row)
    if not old:
        return 0
    these = changes.c.id.between(old[0].id, old[-1].id)
    await connection.execute(
        update(changes).where(these, changes.c.evidence.is_not(None)).values(evidence=None)
    )
    key = tuple_(entries.c.address, entries.c.reason)
    concerned = (
        select(entries.c.address, entries.c.reason)
        .where(
            entries.c.address.in_(select(changes.c.address).where(these)),
            entries.c.evidence.is_not(None),
            entries.c.created_at < before,
        )
        .order_by(entries.c.address, entries.c.reason)  # as whoever else writes entries
        .with_for_update()
    )
    await connection.execute(update(entries).where(key.in_(concerned)).values(evidence=None))
    await _set_mark(connection, EVIDENCE_MARK, old[-1].id)
    return len(old)


async def delete_evidence_of_soft_bounces(connection: AsyncConnection, before: int, limit: int) -> int:
    """The raw events of soft bounces before this time."""
    table = model.soft_bounces
    dialect, evidence = connection.dialect.name, table.c.evidence
    chosen = _oldest(dialect, table, table.c.at, before, limit, evidence.is_not(None))
    return (await connection.execute(update(table).where(chosen).values(evidence=None))).rowcount


async def read_mark(connection: AsyncConnection, name: str) -> int | None:
    """How far work has come; None if it has not begun."""
    return await connection.scalar(select(model.marks.c.value).where(model.marks.c.name == name))


async def count_rows(connection: AsyncConnection, table: Table) -> int:
    """How many rows a table has. PostgreSQL says it from its statistics where it has any, since counting takes long."""
    if connection.dialect.name == "postgresql":
        rows = await connection.scalar(_ESTIMATE, {"name": table.name})
        if rows is not None and rows > _FEW_ROWS:
            return int(rows)
    return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def _delete_oldest(
    connection: AsyncConnection,
    table: Table,
    time: Column[Any],
    before: int,
    limit: int,
    *conditions: ColumnElement[bool],
) -> int:
    chosen = _oldest(connection.dialect.name, table, time, before, limit, *conditions)
    return (await connection.execute(delete(table).where(chosen))).rowcount


def _oldest(
    dialect: str,
    table: Table,
    time: Column[Any],
    before: int,
    limit: int,
    *conditions: ColumnElement[bool],
) -> ColumnElement[bool]:
    """The condition that a row is one of the oldest, without those that somebody else is writing to at this moment."""
    columns = list(table.primary_key.columns)
    chosen = (
        select(*columns)
        .where(time < before, *conditions)
        .order_by(time)
        .limit(limit)
        .with_for_update(skip_locked=True, of=table)
    )
    if (
        dialect == "postgresql"
    ):  # it may run a subquery more than once, and each time it would find other rows
        chosen = select(chosen.cte("oldest"))
    return tuple_(*columns).in_(chosen)


async def _set_mark(connection: AsyncConnection, name: str, value: int) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    adding = insert(model.marks).values(name=name, value=value)
    await connection.execute(
        adding.on_conflict_do_update(index_elements=[model.marks.c.name], set_={"value": value})
    )
