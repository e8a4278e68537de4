"""What somebody looks for in the archive, in words and as a link; and when all of a time is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from bridge.console.archive_searches import Asked, Search, presets
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.archive_search import ArchiveFindings

NOON = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def test_yesterday_is_a_link_away() -> None:
    """Days are those of UTC."""
    found = {preset.title: preset.query for preset in presets(NOON)}
    assert found["Yesterday"] == "since=2026-11-25T00%3A00&until=2026-11-26T00%3A00&search=yes"
    assert found["Last hour"] == "since=2026-11-26T11%3A30&search=yes"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(), "all events"),
        (Asked(since="2026-11-25", until="2026-11-26"), "all events of 25 Nov 2026"),
        (
            Asked(name="clicked", message="7", since="2026-11-25T10:00"),
            "events clicked of message 7 from 25 Nov 2026, 10:00 UTC",
        ),
        (
            Asked(until="2026-11-25T10:00", from_offset="5"),
            "all events until 25 Nov 2026, 10:00 UTC behind offset 5",
        ),
    ],
)
def test_a_question_is_said_in_words(asked: Asked, words: str) -> None:
    """As the heading of what was found, and above a replay."""
    assert asked.words() == words


@pytest.mark.parametrize(
    ("until", "reached", "past"),
    [
        ("2026-11-26", datetime(2026, 11, 26, 0, 2, tzinfo=UTC), True),
        ("2026-11-26", datetime(2026, 11, 26, 0, 0, 30, tzinfo=UTC), False),
        ("2026-11-26", None, False),
        ("", datetime(2026, 11, 26, tzinfo=UTC), False),
    ],
)
def test_the_end_of_a_time_is_known(until: str, reached: datetime | None, *, past: bool) -> None:
    """A receiver's clock may be a minute ahead of RabbitMQ's."""
    milliseconds = None if reached is None else int(reached.timestamp() * 1000)
    progress = ArchiveProgress(reached=milliseconds)
    search = Search(Asked(until=until), cast("Any", None), ArchiveFindings(1), progress)
    assert search.is_past_its_time is past
