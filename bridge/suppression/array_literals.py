"""Columns of many rows as PostgreSQL's array literals: to encode them as arrays, asyncpg takes ten times as long.

It asks of each value, text and number alike, by two abstract classes of Python whether it is an array itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Text, cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import BindParameter, Cast, Dialect
    from sqlalchemy.types import TypeEngine


def array_literal(values: Sequence[str | int | None]) -> str:
    """Texts or whole numbers as the literal of an array, in the syntax of PostgreSQL's manual, 8.15.6.

    It is that of JSON, but for the brackets and for what is written with a backslash.
    """
    try:
        written = orjson.dumps(values).decode()
    except orjson.JSONEncodeError:
        written = "\\"  # PostgreSQL or its driver says what is wrong with it
    if "\\" in written:
        return f"{{{','.join(map(_element, values))}}}"
    return f"{{{written[1:-1]}}}"


def array_of(parameter: BindParameter[Any], item: TypeEngine[Any]) -> Cast[Any]:
    """The array that is given by a parameter of the type `ArrayLiteral`. Args: the parameter; the type of an element."""
    return cast(parameter, ARRAY(item, dimensions=1))


def _element(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


class ArrayLiteral(TypeDecorator[Any]):
    """A parameter that takes a list and goes to the database as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Args: the list, of texts or of whole numbers; the database, which is PostgreSQL."""
        del dialect
        return array_literal(value)
