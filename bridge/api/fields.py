"""Checks the values of queries and bodies by hand: for 10,000 addresses a library takes longer than the database.

Each function raises `ProblemError` with the place of what is wrong, such as `addresses[3]` or `query.limit`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from bridge.api.problems import FieldError, invalid, invalid_field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiohttp import web

MAX_NOTE: Final = 1000
"""Characters of a note."""

_STRING: Final = "must be a string"
_LATEST: Final = 253_402_300_799
"""The end of the year 9999."""
_RFC_3339: Final = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""What no database takes."""
_FLAGS: Final = {"true": True, "false": False}


def only(document: Mapping[str, Any], *names: str, place: str = "") -> None:
    """Nothing if the object has no other names than these."""
    if unknown := [name for name in document if name not in names]:
        raise invalid_field(f"{place}{unknown[0]}", f"there is no such field; there are {', '.join(names)}")


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


def text(
    document: Mapping[str, Any], name: str, *, most: int, preset: str | None = None, place: str = ""
) -> str:
    """The string of this name, with at most `most` characters; the preset one if it is not given, None if it must be."""
    found = document.get(name, preset)
    if found is None:
        raise invalid_field(place + name, _STRING if name in document else "is missing")
    if not isinstance(found, str):
        raise invalid_field(place + name, _STRING)
    if len(found) > most:
        raise invalid_field(place + name, f"has {len(found)} characters; at most {most} are taken")
    if _UNSTORABLE.search(found):
        raise invalid_field(place + name, "has a character that cannot be stored (NUL, or half of a pair)")
    return found


def flag(document: Mapping[str, Any], name: str) -> bool:
    """The boolean of this name; False if it is not given."""
    found = document.get(name, False)
    if not isinstance(found, bool):
        raise invalid_field(name, "must be true or false")
    return found


def time(value: Any, where: str) -> int | None:
    """A time in RFC 3339, in Unix seconds; what is before 1970 counts as its beginning. None stays None."""
    if value is None:
        return None
    if isinstance(value, str) and (found := _RFC_3339.fullmatch(value)) is not None:
        with suppress(ValueError):  # there is no such day
            moment = datetime.fromisoformat(f"{found['day']}T{found['clock']}{found['zone'].upper()}")
            return min(max(int(moment.timestamp()), 0), _LATEST)
    raise invalid_field(where, "must be a time in RFC 3339, such as 2026-11-26T08:00:00Z")


def query(request: web.Request, *names: str) -> dict[str, str]:
    """The parameters of the query, each at most once, and no others than these."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        where = f"query.{name}"
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there are none here"
            raise invalid_field(where, f"there is no such parameter; {there}")
        if name in found:
            raise invalid_field(where, "is given twice")
        found[name] = value
    return found


def query_number(given: Mapping[str, str], name: str, *, preset: int, least: int, most: int) -> int:
    """The whole number of this parameter; the preset one if it is not given."""
    if (found := given.get(name)) is None:
        return preset
    if found.isascii() and found.isdecimal() and len(found) <= len(str(most)) and least <= int(found) <= most:
        return int(found)
    raise invalid_field(f"query.{name}", f"must be a whole number from {least} to {most}")


def query_choice(given: Mapping[str, str], name: str, choices: Collection[str]) -> str | None:
    """The value of this parameter, one of the choices; None if it is not given."""
    found = given.get(name)
    if found is not None and found not in choices:
        raise invalid_field(f"query.{name}", f"must be one of {', '.join(choices)}")
    return found


def query_flag(given: Mapping[str, str], name: str) -> bool:
    """`true` or `false`; False if it is not given."""
    return _FLAGS[query_choice(given, name, _FLAGS) or "false"]


def query_text(given: Mapping[str, str], name: str, *, most: int = MAX_NOTE) -> str:
    """The text of this parameter; empty if it is not given."""
    return text(given, name, most=most, preset="", place="query.")


def query_time(given: Mapping[str, str], name: str) -> int | None:
    """The time of this parameter, in Unix seconds; None if it is not given."""
    return time(given.get(name), f"query.{name}")
