"""What the log says of events that are answered 503."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from bridge.receiver.rejection_log import RejectionLog
from tests.support.clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any

    Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def logged() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


def test_the_first_is_said_at_once_then_a_line_each_minute(clock: StillClock, logged: Lines) -> None:
    """With how many there were, and why the last one was rejected: a full spool rejects thousands."""
    rejecting = RejectionLog(clock)
    for second in range(130):
        for _ in range(100):
            rejecting.rejected(f"at {second}")
        clock.now += 1
    said = [(line["action"], line["events"], line["reason"], line["seconds"]) for line in logged]
    assert said == [
        ("receiver.rejecting", 1, "at 0", 0),
        ("receiver.rejecting", 6000, "at 60", 60),
        ("receiver.rejecting", 6000, "at 120", 120),
    ]


def test_when_it_is_over_that_is_said_once_with_all_of_them(clock: StillClock, logged: Lines) -> None:
    """Once no event was rejected for a while, and one is accepted."""
    rejecting = RejectionLog(clock)
    rejecting.rejected("full")
    clock.now += 5
    rejecting.rejected("full")
    clock.now += 11
    for _ in range(3):
        rejecting.accepted()
    assert [line["action"] for line in logged] == ["receiver.rejecting", "receiver.accepting_again"]
    assert logged[-1]["rejected"] == 2
    assert not rejecting.active


def test_one_that_is_taken_between_two_that_are_not_ends_nothing(clock: StillClock, logged: Lines) -> None:
    """A disk that is all but full takes the small ones."""
    rejecting = RejectionLog(clock)
    for _ in range(50):
        rejecting.rejected("full")
        rejecting.accepted()
        clock.now += 1
    assert [line["action"] for line in logged] == ["receiver.rejecting"]


def test_the_next_time_is_said_at_once_again(clock: StillClock, logged: Lines) -> None:
    """However soon it comes after the last."""
    rejecting = RejectionLog(clock)
    for _ in range(2):
        rejecting.rejected("full")
        clock.now += 11
        rejecting.accepted()
    assert [line["action"] for line in logged] == ["receiver.rejecting", "receiver.accepting_again"] * 2
