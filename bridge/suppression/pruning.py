"""The statements that delete what has grown old, some rows at a time. The caller ends the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.suppression import model

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

EVIDENCE_MARK: Final = "evidence pruned to change"
"""The id of the last change whose evidence was deleted, or that had none."""
CHANGES_MARK: Final = "changes pruned to change"
"""The id of the last change that `delete_changes` has gone through."""
LOG_MARK: Final = "changes pruned until"
"""When it was made, Unix seconds: of the time before, the log has not everything."""

_PUTTING: Final = ("added", "updated")
"""Actions after which the entry is on the list."""

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


async def delete_idempotent_requests(connection: AsyncConnection, before: int, limit: int) -> int:
    """Requests that were made before this time, and their answers."""
    table = model.idempotent_requests
    return await _delete_oldest(connection, table, table.c.made_at, before, limit)


async def delete_imports(connection: AsyncConnection, before: int, limit: int) -> int:
    """Imports that have ended before this time."""
    table = model.imports
    return await _delete_oldest(connection, table, table.c.finished_at, before, limit)


async def delete_changes(connection: AsyncConnection, before: int, limit: int) -> int:
    """Of the next `limit` changes that were made before this time: those that were published, and say nothing of later times.

    The last change of each entry stays as long as the entry was on the list after it: so what was on the list at any
    later time can still be told. Returns how many changes it went through; it waits at one that is not published.
    """
    changes, earlier = model.changes, model.changes.alias("earlier")
    mark = await read_mark(connection, CHANGES_MARK) or 0
    old = await _next_changes(connection, mark, before, limit, published=True)
    if not old:
        return 0
    these = changes.c.id.between(old[0].id, old[-1].id)
    superseded = (
        select(earlier.c.id)
        .join(changes, (changes.c.address == earlier.c.address) & (changes.c.reason == earlier.c.reason))
        .where(these, earlier.c.id < changes.c.id)
    )
    await connection.execute(delete(changes).where(changes.c.id.in_(superseded)))
    await connection.execute(delete(changes).where(these, changes.c.action.not_in(_PUTTING)))
    await _set_mark(connection, CHANGES_MARK, old[-1].id)
    await _set_mark(connection, LOG_MARK, max(row.at for row in old))
    return len(old)


async def _next_changes(
    connection: AsyncConnection, mark: int, before: int, limit: int, *, published: bool = False
) -> list[Any]:
    """At most `limit` changes behind this id, up to the first that is too young, or must be published first."""
    table = model.changes
    query = select(table.c.id, table.c.at, table.c.published_at).where(table.c.id > mark)
    old = []
    for row in await connection.execute(query.order_by(table.c.id).limit(limit)):
        if row.at >= before or (published and row.published_at is None):
            break
        old.append(row)
    return old


async def delete_evidence(connection: AsyncConnection, before: int, limit: int) -> int:
    """The raw events of the next `limit` changes that were made before this time, and of entries made then by these.

    Each entry was made by a change, so who goes through the changes, from where the last one stopped, finds all of them.
    Returns how many changes it went through.
    """
    changes, entries = model.changes, model.suppressions
    mark = await read_mark(connection, EVIDENCE_MARK) or 0
    old = await _next_changes(connection, mark, before, limit)
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
) -> int:
    chosen = _oldest(connection.dialect.name, table, time, before, limit)
    return (await connection.execute(delete(table).where(chosen))).rowcount


def _oldest(
    dialect: str,
    table: Table,
    time: Column[Any],
    before: int,
    limit: int,
) -> ColumnElement[bool]:
    """The condition that a row is one of the oldest, without those that somebody else is writing to at this moment."""
    columns = list(table.primary_key.columns)
    chosen = (
        select(*columns)
        .where(time < before)
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
