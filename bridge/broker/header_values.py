"""Header values that we compute with: anybody may have written them, so each is checked and clamped here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from bridge.events import MAX_TIMESTAMP

MOST_ATTEMPTS: Final = 1_000_000
"""No message has more: at one each second these would be twelve days. A larger count is written as this one."""
LATEST: Final = MAX_TIMESTAMP * 1000
"""Unix milliseconds: the end of the year 9999, up to which people and libraries can write a date."""
LONGEST_LINE: Final = 1000
"""Characters of a line for people."""


def attempts(value: Any) -> int | None:
    """A number of attempts, at most `MOST_ATTEMPTS`; None where it is no count."""
    whole = _whole(value)
    return None if whole is None else min(whole, MOST_ATTEMPTS)


def moment(value: Any) -> int | None:
    """A time in Unix milliseconds; None where it is none that can be written as a date."""
    whole = _whole(value)
    return None if whole is None or whole > LATEST else whole


def milliseconds(value: Any) -> int | None:
    """A decoded timestamp in Unix milliseconds."""
    return moment(int(value.timestamp() * 1000)) if isinstance(value, datetime) else None


def text(value: Any) -> str:
    """A text; bytes that are no UTF-8 are shown as far as they are. Anything else is an empty one."""
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def line(words: str) -> str:
    """What somebody said, as one line that fits into a header and can be encoded."""
    return " ".join(words.encode(errors="replace").decode().split())[:LONGEST_LINE]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
