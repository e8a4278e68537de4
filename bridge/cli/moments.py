"""Points in time as options: so long ago, so far ahead, or a date."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import typer

from bridge.broker.archive_selection import InvalidTimeError, parse_time
from bridge.timestamps import seconds_of_age


def moment(text: str) -> int:
    """`7d` (ago) or ISO 8601, as Unix seconds. For `parser` of an option."""
    try:
        return int(parse_time(text.strip(), now=datetime.now(UTC)).timestamp())
    except (InvalidTimeError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None


def moment_ahead(text: str) -> int:
    """`7d` (from now) or ISO 8601, as Unix seconds. For `parser` of an option."""
    seconds = seconds_of_age(text.strip())
    return moment(text) if seconds is None else round(time.time() + seconds)
