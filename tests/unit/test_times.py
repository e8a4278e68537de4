"""Ages and times as people write and read them, the same for every command."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from bridge.broker.archive_selection import parse_time
from bridge.cli.lists import Cell
from bridge.cli.times import age_cell, duration_text, parse_age, time_cell, utc_text_of_milliseconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("7d", 604_800), (" 1w ", 604_800)]
)
def test_an_age_is_one_thing_for_all_commands(text: str, seconds: float) -> None:
    """`--older-than` and `--since` take the same texts."""
    assert parse_age(text) == seconds
    now = datetime(2026, 5, 2, tzinfo=UTC)
    assert (now - parse_time(text.strip(), now=now)).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5y", "٥m"])
def test_what_is_no_age_is_bad_usage(text: str) -> None:
    """The message says how it is written."""
    with pytest.raises(typer.BadParameter, match="write 90s, 5m, 2h or 7d"):
        parse_age(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0, "0s"), (65, "1m 5s"), (3600, "1h 0m"), (93_784, "1d 2h")]
)
def test_a_duration_has_two_units(seconds: float | None, text: str) -> None:
    """People need no more."""
    assert duration_text(seconds) == text


def test_people_and_programs_read_the_same_times() -> None:
    """Programs get seconds and RFC 3339."""
    assert age_cell(93_784.4) == Cell("1d 2h", 93_784)
    assert age_cell(None) == Cell("?", "")
    assert time_cell(1_539_062_173) == Cell("2018-10-09 05:16:13", "2018-10-09T05:16:13Z")
    assert utc_text_of_milliseconds(1_539_062_173_999) == "2018-10-09 05:16:13 UTC"
    assert utc_text_of_milliseconds(None) == "-"
