"""Deletes what is old where some of it stays: each statement goes through a few rows only, from where the last one stopped.

Else each would go through all that stays, again and again, and whoever writes would wait for it. The caller ends the
transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, exists, false, select, true, tuple_, update

from bridge.suppression import model

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

Position = tuple[Any, ...]
"""Of a row: its time, and its primary key."""


class Walked(NamedTuple):
    """What one statement has done."""

    rows: int
    """How many it has changed."""
    seen: int
    """How many it has gone through."""
    behind: Position | None
    """The last of them, for the next one; None: there are no more."""


async def delete_soft_bounces(
    connection: AsyncConnection, before: int, limit: int, behind: Position | None
) -> Walked:
    """Soft bounces of addresses that have had none since: older ones decide how long newer ones suppress.

    Args:
        connection: in a transaction that writes.
        before: Unix seconds: of which time and later all stay.
        limit: how many rows it goes through at most.
        behind: where to begin; None: at the oldest.
    """
    table, newer = model.soft_bounces, model.soft_bounces.alias("newer")
    none_since = ~exists().where(newer.c.address == table.c.address, newer.c.at >= before)
    part = await _next_part(connection, table, table.c.at, before, limit, behind)
    rows = await _delete(connection, table, part, none_since)
    return part.walked(rows)


async def delete_deliveries(
    connection: AsyncConnection, before: int, limit: int, behind: Position | None
) -> Walked:
    """Deliveries to addresses of which no soft bounce is known any more. Args: as above."""
    table, bounces = model.deliveries, model.soft_bounces
    no_bounce = ~exists().where(bounces.c.address == table.c.address)
    part = await _next_part(connection, table, table.c.delivered_at, before, limit, behind)
    rows = await _delete(connection, table, part, no_bounce)
    return part.walked(rows)


async def delete_evidence_of_soft_bounces(
    connection: AsyncConnection, before: int, limit: int, behind: Position | None
) -> Walked:
    """The raw events of soft bounces before this time. Args: as above."""
    table = model.soft_bounces
    part = await _next_part(connection, table, table.c.at, before, limit, behind)
    chosen = _chosen(connection, table, part, table.c.evidence.is_not(None))
    found = await connection.execute(update(table).where(chosen).values(evidence=None))
    return part.walked(found.rowcount)


class _Part(NamedTuple):
    """The next rows, in the order of their times."""

    condition: ColumnElement[bool]
    """That a row is one of them."""
    seen: int
    behind: Position | None

    def walked(self, rows: int) -> Walked:
        return Walked(rows, self.seen, self.behind)


async def _next_part(
    connection: AsyncConnection,
    table: Table,
    time: Column[Any],
    before: int,
    limit: int,
    behind: Position | None,
) -> _Part:
    columns = [time, *table.primary_key.columns]
    # The time alone, too, since an index has it; and one bound on each side, since SQLite uses no more.
    later = true() if behind is None else (time >= behind[0]) & (tuple_(*columns) > tuple_(*behind))
    query: Select[Any] = select(*columns).where(later, time < before).order_by(*columns).limit(limit)
    found = [tuple(row) for row in await connection.execute(query)]
    if not found:
        return _Part(false(), 0, None)
    last = found[-1]
    these = and_(later, time <= last[0], tuple_(*columns) <= tuple_(*last))
    return _Part(these, len(found), last if len(found) == limit else None)


async def _delete(
    connection: AsyncConnection, table: Table, part: _Part, condition: ColumnElement[bool]
) -> int:
    return (
        await connection.execute(delete(table).where(_chosen(connection, table, part, condition)))
    ).rowcount


def _chosen(
    connection: AsyncConnection, table: Table, part: _Part, condition: ColumnElement[bool]
) -> ColumnElement[bool]:
    """That a row is of this part and meets the condition, and that nobody else is writing to it at this moment."""
    columns = list(table.primary_key.columns)
    chosen = select(*columns).where(part.condition, condition).with_for_update(skip_locked=True, of=table)
    if connection.dialect.name == "postgresql":  # it may run a subquery more than once
        chosen = select(chosen.cte("chosen"))
    return tuple_(*columns).in_(chosen)
