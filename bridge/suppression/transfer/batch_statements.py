"""The statements of an import: thousands of rows at once. The caller ends the transaction."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
from sqlalchemy import case, func, literal_column, select, text

from bridge.suppression import bulk, model
from bridge.suppression.change_log import CHANGE_IDS_LOCK
from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.transfer.merging import Found, Merged
from bridge.text import first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table, TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.bulk import Insert
    from bridge.suppression.transfer.batch import NewChange, NewEntry
    from bridge.suppression.transfer.rows import ImportedRow

_POSTGRESQL: Final = "postgresql"
_LONG_TRANSACTIONS: Final = ("PRAGMA cache_size = -16384", "PRAGMA wal_autocheckpoint = 10000")
"""Of SQLite: the pages that a batch changes stay in memory (16 MiB) until it is committed, and those that many batches
change are copied from the log into the file once (the log grows to 40 MiB)."""


async def exclusive_writer(connection: AsyncConnection) -> None:
    """Until the transaction ends nobody else writes entries, or takes something off the list; everybody may read.

    SQLite has one writer at a time anyway. On PostgreSQL a removal has taken its lock on `liftings` first, and so does this.
    """
    if connection.dialect.name == _POSTGRESQL:
        await connection.execute(text(f"LOCK TABLE {model.liftings.name} IN ROW SHARE MODE"))
        await connection.execute(text(f"LOCK TABLE {model.suppressions.name} IN SHARE ROW EXCLUSIVE MODE"))
    else:
        for pragma in _LONG_TRANSACTIONS:
            await connection.exec_driver_sql(pragma)


async def read_found(connection: AsyncConnection, rows: Sequence[ImportedRow]) -> Found:
    found = Found()
    addresses = list({row.address for row in rows})
    dialect = connection.dialect.name
    given = {"keys": addresses if dialect == _POSTGRESQL else orjson.dumps(addresses).decode()}
    for address, reason, *values in await connection.execute(_entries_statement(dialect), given):
        found.entries[address, reason] = Merged(*values)
    for address, reason, lifted_at in await connection.execute(_liftings_statement(dialect), given):
        found.lifted_at[address, reason] = lifted_at
    return found


@lru_cache(maxsize=4)
def _entries_statement(dialect: str) -> TextClause:
    return _looking_up(
        dialect, "suppressions", "address, reason, first_event_at, last_event_at, count, expires_at"
    )


@lru_cache(maxsize=4)
def _liftings_statement(dialect: str) -> TextClause:
    return _looking_up(dialect, "liftings", "address, reason, lifted_at")


def _looking_up(dialect: str, table: str, names: str) -> TextClause:
    """One look into the index for each key, however long the table is."""
    given = (
        "unnest(CAST(:keys AS text[])) AS given(value)"
        if dialect == _POSTGRESQL
        else "json_each(:keys) AS given"
    )
    columns = ", ".join(f"stored.{name}" for name in names.split(", "))
    return text(
        f"SELECT {columns} FROM {given} CROSS JOIN {table} AS stored WHERE stored.address = given.value"  # noqa: S608 -- nothing of it comes from outside
    )


async def add_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[NewEntry] | Sequence[NewChange]
) -> None:
    """Insert rows that are not there yet. On PostgreSQL by COPY, which takes half the time.

    Raises:
        StoreUnavailableError: PostgreSQL does not take them.
    """
    if not rows:
        return
    names = rows[0]._fields
    if connection.dialect.name != _POSTGRESQL:
        await connection.exec_driver_sql(_insertion(table.name, names), list(rows))
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        await driver.copy_records_to_table(table.name, columns=names, records=rows)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(
            f"PostgreSQL does not take rows for {table.name} now: {first_line(error)}"
        ) from error


def _insertion(table: str, names: Sequence[str]) -> str:
    """Rows go to SQLite's driver as they are: SQLAlchemy takes as long to look at a row as SQLite to write it."""
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 -- the names are ours


async def lock_change_ids(connection: AsyncConnection) -> None:
    """From here to the commit nobody else adds changes, as in `change_log.append_rows`."""
    if connection.dialect.name == _POSTGRESQL:
        await connection.execute(select(func.pg_advisory_xact_lock(CHANGE_IDS_LOCK)))


@lru_cache(maxsize=4)
def upsert_statement(dialect: str) -> Insert:
    """Writes entries as they were merged. What an entry was first made from stays.

    An entry for soft bounces that is imported upon has no message from then on: no event changes it any more, as when a
    person adds to it.
    """
    stored = model.suppressions.c
    adding = bulk.insert_statement(dialect, model.suppressions, tuple(column.name for column in stored))
    merged = ("first_event_at", "last_event_at", "count", "expires_at", "updated_at")
    by_events = stored.reason != literal_column(
        f"'{Reason.SOFT_BOUNCE.value}'"
    )  # `write_rows` gives no other
    return adding.on_conflict_do_update(
        index_elements=[stored.address, stored.reason],
        set_={name: adding.excluded[name] for name in merged}
        | {name: case((by_events, stored[name])) for name in ("message_id", "evidence")},
    )
