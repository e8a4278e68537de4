"""Checks the values of queries and bodies by hand: for 10,000 addresses a library takes longer than the database.

Each function raises `ProblemError` with the place of what is wrong, such as `addresses[3]` or `query.limit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.api.problems import FieldError, invalid, invalid_field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiohttp import web

_STRING: Final = "must be a string"


def only(document: Mapping[str, Any], *names: str, place: str = "") -> None:
    """Nothing if the object has no other names than these."""
    if unknown := [name for name in document if name not in names]:
        where = f"{place}.{unknown[0]}" if place else unknown[0]
        raise invalid_field(where, f"there is no such field; there are {', '.join(names)}")


def items(document: Mapping[str, Any], name: str, *, most: int) -> list[Any]:
    """The list of this name, with 1 to `most` items."""
    if name not in document:
        raise invalid_field(name, "is missing")
    found = document[name]
    if not isinstance(found, list):
        raise invalid_field(name, "must be a list")
    if not found:
        raise invalid_field(name, "is empty; give at least one")
    if len(found) > most:
        raise invalid_field(name, f"has {len(found)} items; at most {most} are taken, send several requests")
    return found


def texts(found: list[Any], name: str) -> list[str]:
    """The items, all of which are strings."""
    if set(map(type, found)) == {str}:
        return found
    raise invalid(
        [FieldError(f"{name}[{at}]", _STRING) for at, item in enumerate(found) if not isinstance(item, str)]
    )


def query(request: web.Request, *names: str) -> dict[str, str]:
    """The parameters of the query, each at most once, and no others than these."""
    given = request.query
    found: dict[str, str] = {}
    for name, value in given.items():
        where = f"query.{name}"
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there are none here"
            raise invalid_field(where, f"there is no such parameter; {there}")
        if name in found:
            raise invalid_field(where, "is given twice")
        found[name] = value
    return found


def whole_number(given: Mapping[str, str], name: str, *, preset: int, least: int, most: int) -> int:
    """The whole number of this parameter; the preset one if it is not given."""
    if (text := given.get(name)) is None:
        return preset
    if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise invalid_field(f"query.{name}", f"must be a whole number from {least} to {most}")


def one_of(given: Mapping[str, str], name: str, choices: Collection[str]) -> str | None:
    """The value of this parameter, one of the choices; None if it is not given."""
    text = given.get(name)
    if text is not None and text not in choices:
        raise invalid_field(f"query.{name}", f"must be one of {', '.join(choices)}")
    return text
