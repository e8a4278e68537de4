"""Ages and times as text: one way to write them, and to show them, for all commands."""

from __future__ import annotations

import typer

from bridge.cli.lists import Cell
from bridge.timestamps import rfc3339, seconds_of_age, unix_ms_now

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def parse_age(text: str) -> float:
    """`90s`, `5m`, `2h` or `7d`, in seconds. For `parser` of an option."""
    seconds = seconds_of_age(text.strip())
    if seconds is None:
        raise typer.BadParameter(f"'{text}' is not an age; write 90s, 5m, 2h or 7d")
    return seconds


def duration_text(seconds: float | None) -> str:
    """93784 -> `1d 2h`, 65 -> `1m 5s`."""
    if seconds is None:
        return "?"
    parts: list[str] = []
    rest = int(seconds)
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def age_cell(seconds: float | None) -> Cell:
    """People read `1d 2h`, programs seconds."""
    return Cell(duration_text(seconds), "" if seconds is None else round(seconds))


def utc_text(seconds: float) -> str:
    """1539062173 -> `2018-10-09 05:16:13`; it does not say that it is UTC."""
    return rfc3339(int(seconds)).removesuffix("Z").replace("T", " ")


def utc_text_of_milliseconds(milliseconds: int | None) -> str:
    """1539062173042 -> `2018-10-09 05:16:13 UTC`."""
    return "-" if milliseconds is None else f"{utc_text(milliseconds // 1000)} UTC"


def time_cell(seconds: int) -> Cell:
    """People read `2018-10-09 05:16:13`, which breaks between day and clock where it is narrow; programs RFC 3339."""
    return Cell(utc_text(seconds), rfc3339(seconds))


def milliseconds_ago(seconds: float | None) -> int | None:
    """The time of that many seconds ago, in Unix milliseconds."""
    return None if seconds is None else unix_ms_now() - round(seconds * 1000)
