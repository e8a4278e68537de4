"""Writes the list in PostgreSQL anew, and the statistics that PostgreSQL has of it, so that nothing of what was deleted is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, text

from bridge.suppression import model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_STATISTICS: Final = ("pg_catalog.pg_statistic", "pg_catalog.pg_statistic_ext_data")
"""Samples of the values of all columns of the database: ANALYZE puts addresses there, and PostgreSQL runs it by itself."""

OLDER_SECONDS: Final = 15.0
"""How long to wait for transactions that may still read what was deleted: those of a worker end in ten seconds."""
_LOOK_EVERY_SECONDS: Final = 0.1

_MARK: Final = text("SELECT txid_current() % 4294967296")
"""A transaction's id that is newer than whatever has deleted something up to now."""

# VACUUM keeps what any of these may still read, or what its own snapshot would read, which begins with the oldest transaction
# that writes, in whatever database of the server. Others' transactions and ids are visible to every user; a lazy VACUUM is
# not among them.
_OLDER: Final = text(
    "SELECT concat('process ', pid, ' of ', coalesce(usename, 'PostgreSQL')) FROM pg_stat_activity "
    "WHERE greatest(CASE WHEN coalesce(datname, current_database()) = current_database() THEN age(backend_xmin) END, "
    "age(backend_xid)) >= age(CAST(CAST(:mark AS text) AS xid)) AND pid <> pg_backend_pid() "
    "AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum) "
    "UNION ALL SELECT concat('the prepared transaction ', quote_literal(gid)) FROM pg_prepared_xacts "
    "WHERE age(transaction) >= age(CAST(CAST(:mark AS text) AS xid)) "
    "UNION ALL SELECT concat('the replication slot ', quote_literal(slot_name)) FROM pg_replication_slots "
    "WHERE greatest(age(xmin), age(catalog_xmin)) >= age(CAST(CAST(:mark AS text) AS xid))"
)

# ANALYZE leaves the statistics of a table without rows as they were.
_EMPTY_WITH_STATISTICS: Final = text(
    "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname "
    # Who may not read a table does not see its statistics: then it is tried, and says so.
    "WHERE (s.attname IS NOT NULL OR NOT has_table_privilege(c.oid, 'SELECT')) AND c.oid = to_regclass(:name) AND c.reltuples <= 0)"
)


class NotVacuumedError(Exception):
    """Something of what was deleted is left, or may be. The message says where, why, and what to do."""


async def vacuum(engine: AsyncEngine) -> None:
    """Write the tables anew, then the statistics of their values.

    Raises:
        NotVacuumedError: this user may not, or transactions that are older still need what was deleted.
        sqlalchemy.exc.DBAPIError: as the statements.
    """
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        warnings = await _warnings_of(connection)
        older = await _older_transactions(connection)
        for table in model.metadata.sorted_tables:
            await connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.name}"))
            if warnings:
                raise NotVacuumedError(
                    f"was not written anew, since its user may not: {warnings[0]}; "
                    "run `bridge db vacuum` as the owner of the tables"
                )
        for table in model.metadata.sorted_tables:
            if await connection.scalar(_EMPTY_WITH_STATISTICS, {"name": table.name}):
                await _analyze_with_a_row(engine, table)
        # Only now, for what ANALYZE has replaced is a deleted row of the statistics.
        older += await _older_transactions(connection)
        for name in _STATISTICS:
            await connection.execute(text(f"VACUUM (FULL) {name}"))
        if warnings:
            raise NotVacuumedError(await _without_statistics(connection, warnings[0]))
    if older:
        raise NotVacuumedError(
            "was written anew, but keeps what was deleted, since older transactions may still read it: "
            f"{', '.join(dict.fromkeys(older))}; run `bridge db vacuum` again when they have ended"
        )


async def _warnings_of(connection: AsyncConnection) -> list[str]:
    """PostgreSQL's warnings from now on. What a user may not vacuum is skipped with a warning, and is no error."""
    warnings: list[str] = []

    def on_message(session: asyncpg.Connection, message: asyncpg.PostgresLogMessage) -> None:
        del session
        if message.severity_en == "WARNING":
            warnings.append(message.message)

    driver: Any = (await connection.get_raw_connection()).driver_connection
    driver.add_log_listener(on_message)
    return warnings


async def _older_transactions(connection: AsyncConnection) -> list[str]:
    """Those that may still read what is deleted by now, after some time for them to end."""
    mark = str(await connection.scalar(_MARK))
    found: Sequence[str] = ()
    for _ in range(max(1, round(OLDER_SECONDS / _LOOK_EVERY_SECONDS))):
        found = (await connection.scalars(_OLDER, {"mark": mark})).all()
        if not found:
            break
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return list(found)


async def _analyze_with_a_row(engine: AsyncEngine, table: Table) -> None:
    """Replace the statistics of an empty table by those of one row without any value, which nobody else sees."""
    # `str()`, `int()` and so on are the empty values of their types.
    nothing = {column: column.type.python_type() for column in table.columns if not column.nullable}
    async with engine.begin() as connection:
        await connection.execute(
            insert(table).values({column.name: value for column, value in nothing.items()})
        )
        await connection.execute(text(f"ANALYZE {table.name}"))
        await connection.execute(delete(table).where(*(column == value for column, value in nothing.items())))


async def _without_statistics(connection: AsyncConnection, warning: str) -> str:
    database, user = (
        await connection.execute(text("SELECT quote_ident(current_database()), quote_ident(current_user)"))
    ).one()
    return (
        "was written anew, but not PostgreSQL's statistics of it, in which addresses may be left, since its user may not: "
        f"{warning}; have an administrator say ALTER DATABASE {database} OWNER TO {user}, and run `bridge db vacuum` again, "
        f"or have him say VACUUM FULL {', '.join(_STATISTICS)} in this database"
    )
