"""Many rows in one statement, in the form that is fast on each database.

SQLite takes a list of rows. PostgreSQL takes one array for each column, so that the statement and its plan are the same
for any number of rows; texts and numbers that are written go there as the literal of an array.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, LargeBinary, Text, any_, bindparam, func, literal_column, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

from bridge.suppression.array_literals import ArrayLiteral, array_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Column, ColumnElement, Dialect, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert
    from sqlalchemy.types import TypeEngine

    Insert = sqlite.Insert | postgresql.Insert
    Rows = Sequence[Mapping[str, Any]]

MAX_PARAMETERS: Final = 500
"""Values in one IN list: SQLite before 3.32 takes 999 parameters."""
_POSTGRESQL: Final = "postgresql"


@lru_cache(maxsize=32)
def insert_statement(
    dialect: str, table: Table, names: tuple[str, ...], *, lock: int | None = None
) -> Insert:
    """An INSERT of these columns that supports ON CONFLICT. Execute it with the result of `as_parameters`.

    Args:
        dialect: the database's.
        table: into which.
        names: of the columns.
        lock: key of an advisory lock, which PostgreSQL takes before the first row gets its defaults, until the transaction
            ends. It costs no round trip.
    """
    if dialect != _POSTGRESQL:
        return sqlite.insert(table)
    arrays = (_given(table.c[name]) for name in names)
    rows = func.unnest(*arrays).table_valued(*names, with_ordinality="place", name="given")
    rows = rows.render_derived()
    # In the order of the parameters: it is the order of the changes' ids, and that in which rows are locked.
    chosen = select(*(rows.c[name] for name in names)).order_by(rows.c.place)
    if lock is not None:
        # The function is volatile, so the planner keeps it; all rows are sorted before the first one is inserted.
        locked = select(func.pg_advisory_xact_lock(literal_column(str(lock))).label("locked")).subquery(
            "locked"
        )
        chosen = chosen.select_from(locked.join(rows, true()))
    return postgresql.insert(table).from_select(names, chosen)


def as_parameters(connection: AsyncConnection, rows: Rows) -> Rows | dict[str, list[Any]]:
    """The rows (at least one) as parameters of a statement of `insert_statement`."""
    if connection.dialect.name != _POSTGRESQL:
        return rows
    return {name: [row[name] for row in rows] for name in rows[0]}


async def write_rows(connection: AsyncConnection, statement: Insert, rows: Rows) -> None:
    """Execute a statement of `insert_statement` with these rows, at least one, which have the same keys.

    The statement must have no other parameters. To SQLite they go as they are: SQLAlchemy takes as long to look at a row as SQLite to write it.
    """
    if connection.dialect.name == _POSTGRESQL:
        await connection.execute(statement, as_parameters(connection, rows))
        return
    sql, names = _for_driver(statement, connection.dialect, tuple(rows[0]))
    await connection.exec_driver_sql(sql, [tuple([row[name] for name in names]) for row in rows])


async def fetch_rows(
    connection: AsyncConnection, statement: ReturningInsert[Any], rows: Rows
) -> Sequence[Sequence[Any]]:
    """The same as `write_rows` with a statement that returns something. Returns that for all rows, in any order."""
    if connection.dialect.name == _POSTGRESQL:
        returned: Sequence[Sequence[Any]] = (
            await connection.execute(statement, as_parameters(connection, rows))
        ).all()
        return returned
    sql, names = _for_driver(statement, connection.dialect, tuple(rows[0]))
    at_once = MAX_PARAMETERS // len(names)
    found: list[Sequence[Any]] = []
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        values = tuple([row[name] for row in some for name in names])
        found += (await connection.exec_driver_sql(_with_rows(sql, len(names), len(some)), values)).all()
    return found


@lru_cache(maxsize=64)
def _with_rows(sql: str, width: int, rows: int) -> str:
    """The INSERT of one row of so many values as one of many rows."""
    before, one, behind = sql.partition(f"({', '.join('?' * width)})")
    return before + ", ".join([one] * rows) + behind


@lru_cache(maxsize=8)
def _for_driver(
    statement: Insert | ReturningInsert[Any], dialect: Dialect, names: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The statement as text, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    return str(compiled), tuple(getattr(compiled, "positiontup", None) or ())


def column_in(
    connection: AsyncConnection, column: Column[Any], values: Collection[Any]
) -> Iterator[ColumnElement[bool]]:
    """Conditions that the column has one of the values, each for one statement: SQLite limits the parameters of one."""
    for some in chunks(connection, values):
        if connection.dialect.name == _POSTGRESQL:
            yield column == any_(bindparam(None, some, type_=_array_of(column)))
        else:
            yield column.in_(some)


def chunks(connection: AsyncConnection, values: Collection[Any]) -> Iterator[Sequence[Any]]:
    """The values in order, in one chunk for each statement."""
    ordered = sorted(values)
    batch_size = len(ordered) if connection.dialect.name == _POSTGRESQL else MAX_PARAMETERS
    for start in range(0, len(ordered), batch_size or 1):
        yield ordered[start : start + batch_size]


def is_one_of(dialect: str, column: Column[Any], parameter: str) -> ColumnElement[bool]:
    """The condition that a column of text has one of the values of this parameter, which `one_of` makes.

    The statement is the same for any number of values, and the driver takes them in one piece.
    """
    if dialect == _POSTGRESQL:
        # No literal: where PostgreSQL looks at each row of a table, it would read it again for each.
        return column == any_(bindparam(parameter, type_=_array_of(column)))
    given = func.json_each(bindparam(parameter, type_=Text())).table_valued("value")
    return column.in_(select(given.c.value))


def one_of(connection: AsyncConnection, values: Collection[str]) -> list[str] | str:
    """Texts as the parameter of `is_one_of`."""
    return sorted(values) if connection.dialect.name == _POSTGRESQL else json.dumps(sorted(values))


def _given(column: Column[Any]) -> ColumnElement[Any]:
    """The values of a column in rows that are written, by the parameter of its name."""
    if isinstance(column.type, Text | BigInteger):
        return array_of(bindparam(column.name, type_=ArrayLiteral()), _plain(column))
    return bindparam(column.name, type_=_array_of(column))


class _Bytes(LargeBinary):
    """asyncpg takes bytes as they are: else SQLAlchemy calls a function for each, which returns them."""

    def bind_processor(self, dialect: Dialect) -> None:
        del dialect


def _array_of(column: Column[Any]) -> ARRAY[Any]:
    return ARRAY(_plain(column), dimensions=1)


def _plain(column: Column[Any]) -> TypeEngine[Any]:
    """The column's type, without its collation."""
    return _Bytes() if isinstance(column.type, LargeBinary) else type(column.type)()
