"""Checks and clamps header values. Anybody may have written them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from bridge.events import MAX_TIMESTAMP
from bridge.text import collapse

MAX_ATTEMPTS: Final = 1_000_000
"""At one attempt a second this is twelve days. Larger counts are clamped to it."""
MAX_UNIX_MS: Final = MAX_TIMESTAMP * 1000
"""Unix milliseconds: the end of the year 9999, the last year that date libraries can format."""
MAX_LINE_LENGTH: Final = 1000
"""Characters."""


def attempts(value: Any) -> int | None:
    """A number of attempts, at most `MAX_ATTEMPTS`; None if it is not a count."""
    whole = _whole_number(value)
    return None if whole is None else min(whole, MAX_ATTEMPTS)


def unix_ms(value: Any) -> int | None:
    """A time in Unix milliseconds; None if it cannot be formatted as a date."""
    whole = _whole_number(value)
    return None if whole is None or whole > MAX_UNIX_MS else whole


def datetime_to_unix_ms(value: Any) -> int | None:
    """A decoded timestamp in Unix milliseconds; None if it is not one."""
    return unix_ms(int(value.timestamp() * 1000)) if isinstance(value, datetime) else None


def text(value: Any) -> str:
    """A text. Invalid UTF-8 is replaced; anything but text and bytes becomes an empty text."""
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def one_line(words: str) -> str:
    """The text as one line that fits into a header and can be encoded."""
    return collapse(words.encode(errors="replace").decode())[:MAX_LINE_LENGTH]


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
