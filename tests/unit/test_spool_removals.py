"""What is to be removed and cannot be: when it is tried again, and how much of it there may be."""

from __future__ import annotations

from structlog.testing import capture_logs

from bridge.spool.pending_removals import MAX_PENDING, PendingRemovals


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_what_is_refused_is_tried_again_later_and_later_up_to_a_minute() -> None:
    """1 s, doubling; however many more come meanwhile, none is tried before."""
    clock = Clock()
    removals = PendingRemovals(clock)
    removals.add({1: 10})
    pauses = []
    for number in range(2, 10):
        assert removals.due() == dict.fromkeys(range(1, number), 10)
        removals.failed("read-only")
        removals.add({number: 10})
        refused_at = clock.seconds
        while not removals.due():
            clock.seconds += 0.5
        pauses.append(clock.seconds - refused_at)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_removal_that_succeeds_ends_the_pauses() -> None:
    """What was removed is forgotten, and the next is tried at once."""
    removals = PendingRemovals(Clock())
    removals.add({1: 10, 2: 20})
    removals.failed("read-only")
    removals.removed([1])
    assert (1 in removals, 2 in removals) == (False, True)
    assert removals.due() == {2: 20}


def test_a_disk_that_refuses_is_logged_once() -> None:
    """Not with each attempt."""
    removals = PendingRemovals(Clock())
    with capture_logs() as said:
        for _ in range(3):
            removals.failed("read-only")
        removals.removed()
        removals.failed("read-only again")
    assert [(one["action"], one["reason"]) for one in said] == [
        ("spool.removals_failed", "read-only"),
        ("spool.removals_failed", "read-only again"),
    ]


def test_there_may_be_too_many() -> None:
    """So that a restart does not publish a million events again."""
    removals = PendingRemovals(Clock())
    removals.add(dict.fromkeys(range(MAX_PENDING - 1), 1))
    assert not removals.too_many
    removals.add({MAX_PENDING: 1})
    assert removals.too_many
