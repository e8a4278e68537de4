"""Checks at the start whether PostgreSQL's user has the privileges that a worker needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from bridge.suppression import model

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_TABLES: Final = {
    model.suppressions: ("SELECT", "INSERT", "UPDATE"),
    model.changes: ("SELECT", "INSERT", "UPDATE"),
    # UPDATE for the FOR KEY SHARE of `current_state.read`. Only `bridge suppressions remove` inserts.
    model.liftings: ("SELECT", "UPDATE"),
    model.handled_events: ("SELECT", "INSERT"),
    model.known_messages: ("SELECT", "INSERT", "UPDATE"),
    model.leases: ("SELECT", "INSERT", "UPDATE"),
    model.freshness: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}


async def missing_privileges(connection: AsyncConnection) -> list[str]:
    """The privileges that this user lacks, such as `INSERT on changes`."""
    asked = {
        f"{privilege} on {table.name}": func.has_table_privilege(table.name, privilege)
        for table, privileges in _TABLES.items()
        for privilege in privileges
    }
    numbers = func.pg_get_serial_sequence(model.changes.name, model.changes.c.id.name)
    asked["USAGE on the sequence of changes"] = func.has_sequence_privilege(numbers, "USAGE")
    has = (await connection.execute(select(*asked.values()))).one()
    return [what for what, granted in zip(asked, has, strict=True) if not granted]
