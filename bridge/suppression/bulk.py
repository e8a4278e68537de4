"""Many rows in one statement, in the way in which each database is quick at it.

SQLite takes a list of rows. PostgreSQL takes an array for each column: one parameter each, and so one text, and one plan,
for however many rows; it makes rows of them in their order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import any_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.types import TypeEngine

    Insert = sqlite.Insert | postgresql.Insert
    Rows = Sequence[Mapping[str, Any]]

PARAMETERS: Final = 500
"""Values in one IN list: SQLite before 3.32 takes 999 parameters."""
_POSTGRESQL: Final = "postgresql"


@lru_cache(maxsize=32)
def inserting(dialect: str, table: Table, names: tuple[str, ...]) -> Insert:
    """An INSERT of these columns that knows ON CONFLICT; to be executed with what `given` makes of the rows."""
    if dialect != _POSTGRESQL:
        return sqlite.insert(table)
    arrays = (bindparam(name, type_=_array_of(table.c[name])) for name in names)
    rows = func.unnest(*arrays).table_valued(*names, with_ordinality="place", name="given")
    rows = rows.render_derived()
    # In the order in which they are given: that of the changes' ids, and that in which locks are taken.
    chosen = select(*(rows.c[name] for name in names)).order_by(rows.c.place)
    return postgresql.insert(table).from_select(names, chosen)


def given(connection: AsyncConnection, rows: Rows) -> Rows | dict[str, list[Any]]:
    """The rows as the parameters of a statement of `inserting`; there must be one at least."""
    if connection.dialect.name != _POSTGRESQL:
        return rows
    return {name: [row[name] for row in rows] for name in rows[0]}


def among(
    connection: AsyncConnection, column: Column[Any], values: Collection[Any]
) -> Iterator[ColumnElement[bool]]:
    """That the column is one of the values: conditions for as many statements as that takes."""
    for some in portions(connection, values):
        if connection.dialect.name == _POSTGRESQL:
            yield column == any_(bindparam(None, some, type_=_array_of(column)))
        else:
            yield column.in_(some)


def portions(
    connection: AsyncConnection, values: Collection[Any], *, lists: int = 1
) -> Iterator[Sequence[Any]]:
    """The values in order, in as many parts as statements are needed that have each value in so many lists."""
    ordered = sorted(values)
    at_once = len(ordered) if connection.dialect.name == _POSTGRESQL else PARAMETERS // lists
    for start in range(0, len(ordered), at_once or 1):
        yield ordered[start : start + at_once]


def one_of(dialect: str, column: Column[Any], parameter: str) -> ColumnElement[bool]:
    """That the column is one of the values of this parameter, which is given with a portion."""
    if dialect == _POSTGRESQL:
        return column == any_(bindparam(parameter, type_=_array_of(column)))
    return column.in_(bindparam(parameter, expanding=True))


def _array_of(column: Column[Any]) -> ARRAY[Any]:
    """Without the column's collation, which is the table's business."""
    plain: TypeEngine[Any] = type(column.type)()
    return ARRAY(plain, dimensions=1)
