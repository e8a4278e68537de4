"""Times as other systems write them into their files, and as ours has them. All are Unix seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

_LATEST: Final = 253_402_300_799
"""The end of the year 9999: no calendar of Python goes further."""
_MILLISECONDS_FROM: Final = 100_000_000_000
"""Numbers from here on are milliseconds: in seconds this is the year 5138."""
_NUMBER: Final = re.compile(r"([0-9]{1,15})(?:\.[0-9]{1,9})?")


class InvalidTimeError(ValueError):
    """The text is not a time. The message shows it."""


def as_text(seconds: int) -> str:
    """1539062173 -> `2018-10-09T05:16:13Z`. What is beyond the years 1970 to 9999 becomes their first or last second."""
    days, clock = divmod(min(max(seconds, 0), _LATEST), 86_400)
    minutes, second = divmod(clock, 60)
    return f"{_day(days)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}Z"


@lru_cache(maxsize=4096)
def _day(days: int) -> str:
    return f"{datetime.fromtimestamp(days * 86_400, UTC):%Y-%m-%d}"


@lru_cache(maxsize=1024)
def parse(text: str) -> int:
    """A time as text: RFC 3339 (without a zone: UTC), RFC 2822, Unix seconds or milliseconds. Fractions are cut off.

    Raises:
        InvalidTimeError: it is not one of these, or before 1970.
    """
    text = text.strip()
    if number := _NUMBER.fullmatch(text):
        whole = int(number[1])
        return whole // 1000 if whole >= _MILLISECONDS_FROM else whole
    try:
        moment = datetime.fromisoformat(text) if text[4:5] == "-" else parsedate_to_datetime(text)
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        raise InvalidTimeError(f"'{text[:60]}' is not a time") from None
    if seconds < 0:
        raise InvalidTimeError(f"'{text[:60]}' is before 1970")
    return seconds
