"""What PostgreSQL's users need, by role: checked at the start of a role, and granted to the user of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import func, select, text

from bridge.suppression import model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Function, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

Role = Literal["worker", "api"]

_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")

# It deletes what is old, for which it locks rows: that takes UPDATE. To move to a new privacy key it needs all of all.
_WORKER: Final[Mapping[Table, Sequence[str]]] = {
    model.suppressions: _ALL,
    model.changes: _ALL,
    # UPDATE for the FOR KEY SHARE of `current_state.read`. Only `bridge suppressions remove` inserts.
    model.liftings: ("SELECT", "UPDATE"),
    model.handled_events: _ALL,
    model.known_messages: _ALL,
    model.idempotent_requests: ("SELECT", "UPDATE", "DELETE"),
    model.imports: ("SELECT", "UPDATE", "DELETE"),
    model.marks: ("SELECT", "INSERT", "UPDATE"),
    model.leases: ("SELECT", "INSERT", "UPDATE"),
    model.freshness: _ALL,
    model.soft_bounces: _ALL,
    model.deliveries: _ALL,
    model.allow_rules: ("SELECT",),
    model.erasures: ("SELECT",),
    # It declares their queues. Only `bridge subscribers` writes them, as the owner.
    model.subscribers: ("SELECT",),
}

# It removes, erases and answers repeated requests. Of events and of leases it knows nothing. Its console shows subscribers.
_API: Final[Mapping[Table, Sequence[str]]] = {
    model.suppressions: _ALL,
    model.changes: ("SELECT", "INSERT", "UPDATE"),
    model.liftings: _ALL,
    model.known_messages: _ALL,
    model.soft_bounces: _ALL,
    model.deliveries: _ALL,
    model.allow_rules: _ALL,
    model.erasures: _ALL,
    model.idempotent_requests: _ALL,
    model.freshness: ("SELECT",),
    model.subscribers: ("SELECT",),
}
_NEEDED: Final = {"worker": _WORKER, "api": _API}
_REVISIONS: Final = "alembic_version"
"""The table of the revision that the database has."""


async def missing_privileges(connection: AsyncConnection, role: Role) -> list[str]:
    """The privileges that this user lacks for this role, such as `INSERT on changes`."""
    asked = {
        f"{privilege} on {table.name}": func.has_table_privilege(table.name, privilege)
        for table, privileges in _NEEDED[role].items()
        for privilege in privileges
    }
    asked["USAGE on the sequence of changes"] = func.has_sequence_privilege(_change_ids(), "USAGE")
    has = (await connection.execute(select(*asked.values()))).one()
    return [what for what, granted in zip(asked, has, strict=True) if not granted]


async def grant_api(connection: AsyncConnection, user: str) -> None:
    """Give this user what `bridge api` needs, and take away everything else that it may do with these tables."""
    name = connection.dialect.identifier_preparer.quote_identifier(user)
    sequence = await connection.scalar(select(_change_ids()))
    tables = ", ".join([_REVISIONS, *(table.name for table in model.metadata.sorted_tables)])
    for statement in (
        f"REVOKE ALL ON {tables} FROM {name}",
        *(f"GRANT {', '.join(privileges)} ON {table.name} TO {name}" for table, privileges in _API.items()),
        f"GRANT SELECT ON {_REVISIONS} TO {name}",
        f"GRANT USAGE ON SEQUENCE {sequence} TO {name}",
    ):
        await connection.execute(text(statement))


def _change_ids() -> Function[Any]:
    """The name of the sequence of the changes' ids."""
    return func.pg_get_serial_sequence(model.changes.name, model.changes.c.id.name)
