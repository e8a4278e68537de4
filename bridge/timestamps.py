"""Timestamps: reads Unix seconds in the variants that programs send, and writes RFC 3339."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

_MAX_DIGITS: Final = 24
"""Far more than a time has, and few enough for Decimal to be exact."""
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_AGE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")
_SECONDS: Final = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400})


def unix_seconds(value: Any, *, latest: int) -> int | Decimal | None:
    """The time in Unix seconds; None if it is not a time, or before 1970.

    Args:
        value: a number, a number as text, or RFC 3339 with a zone.
        latest: Unix seconds. Numbers above it are milliseconds.

    Returns:
        Unix seconds, an integer if they are whole.
    """
    seconds = _of_text(value.strip(), latest) if isinstance(value, str) else _of_number(value, latest)
    if seconds is None or not 0 <= seconds <= latest:
        return None
    return int(seconds) if seconds == int(seconds) else seconds


def _of_number(value: Any, latest: int) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if len(number.as_tuple().digits) > _MAX_DIGITS or not 0 <= number <= latest * 1000:
        return None
    return number if number <= latest else number / 1000


def _of_text(text: str, latest: int) -> Decimal | None:
    if _NUMBER.fullmatch(text):
        return _of_number(Decimal(text), latest)
    if (found := _RFC_3339.fullmatch(text)) is None:
        return None
    day, clock, fraction, zone = found.groups(default="")
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}").timestamp()
    except ValueError:
        return None
    return Decimal(int(whole)) + Decimal(f"0{fraction}")


def seconds_of_age(text: str) -> float | None:
    """`90s`, `5m`, `2h`, `7d` or `1w`, in seconds; None if it is nothing of the kind."""
    found = _AGE.fullmatch(text)
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def unix_ms_now() -> int:
    """The time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=1024)  # the changes of a second are many
def rfc3339(seconds: int) -> str:
    """1539062173 -> `2018-10-09T05:16:13Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_of_milliseconds(milliseconds: int | None) -> str | None:
    """1539062173042 -> `2018-10-09T05:16:13.042Z`; a time that is not known stays None."""
    if milliseconds is None:
        return None
    seconds, rest = divmod(milliseconds, 1000)
    return f"{rfc3339(seconds).removesuffix('Z')}.{rest:03}Z"
