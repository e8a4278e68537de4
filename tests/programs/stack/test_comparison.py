"""The comparison that `make stack-test` rests on: it would see what it is there to see."""

from __future__ import annotations

from typing import Final

from tests.programs.stack.comparison import Arrived, Key, arrivals, listed

DELIVERED: Final = Arrived("delivered", "1")
BOUNCED: Final = Arrived("hard_bounced", "2")
COMPLAINED: Final = Arrived("complained", "3")
BOUNCE_ENTRY: Final = {"address": "recipient2@example.org", "reason": "hard_bounce", "count": 1}
COMPLAINT_ENTRY: Final = {"address": "recipient3@example.org", "reason": "complaint", "count": 1}
BOUNCE: Final = Key("recipient2@example.org", "hard_bounce")
COMPLAINT: Final = Key("recipient3@example.org", "complaint")


def test_an_event_that_was_answered_and_never_arrived_is_lost() -> None:
    """And nothing else is."""
    seen = arrivals({"a": 1, "b": 1}, {"a": DELIVERED})
    assert seen.lost == ("b",)
    assert (seen.events, seen.arrived, seen.duplicates, seen.unanswered) == (2, 1, 0, 0)


def test_a_repeat_that_was_answered_twice_is_no_duplicate() -> None:
    """Each answer stands for a message; what is beyond that is a duplicate."""
    twice = Arrived("delivered", "1", copies=2)
    assert arrivals({"a": 2}, {"a": twice}).duplicates == 0
    assert arrivals({"a": 1}, {"a": twice}).duplicates == 1


def test_an_event_without_an_answer_may_arrive() -> None:
    """Its connection broke after it was published; a second copy of it is a duplicate all the same."""
    seen = arrivals({}, {"a": DELIVERED, "b": Arrived("opened", "4", copies=2)})
    assert seen.lost == ()
    assert (seen.unanswered, seen.duplicates) == (2, 1)


def test_the_list_is_what_hard_bounces_and_complaints_ask_for() -> None:
    """No other event asks for anything."""
    seen = listed([DELIVERED, BOUNCED, COMPLAINED], [BOUNCE_ENTRY, COMPLAINT_ENTRY], {BOUNCE, COMPLAINT})
    assert seen.good
    assert seen.expected == 2


def test_whoever_is_missing_is_named() -> None:
    """An event that arrived, and no entry."""
    seen = listed([BOUNCED, COMPLAINED], [BOUNCE_ENTRY], {BOUNCE})
    assert seen.missing == (COMPLAINT,)
    assert not seen.good


def test_whoever_nothing_asks_for_is_named() -> None:
    """An entry, and no event that arrived."""
    seen = listed([BOUNCED], [BOUNCE_ENTRY, COMPLAINT_ENTRY], {BOUNCE, COMPLAINT})
    assert seen.unasked == (COMPLAINT,)
    assert not seen.good


def test_an_event_that_was_counted_twice_is_seen() -> None:
    """A count is that of different events, however often each was delivered."""
    seen = listed([BOUNCED], [BOUNCE_ENTRY | {"count": 2}], {BOUNCE})
    assert seen.miscounted == (BOUNCE,)
    assert not seen.good


def test_two_events_about_one_recipient_count_two() -> None:
    """They have one entry."""
    assert listed([BOUNCED, BOUNCED], [BOUNCE_ENTRY | {"count": 2}], {BOUNCE}).good


def test_an_entry_that_nobody_was_told_of_is_named() -> None:
    """Every change of the list is published."""
    seen = listed([BOUNCED], [BOUNCE_ENTRY], set())
    assert seen.untold == (BOUNCE,)
    assert not seen.good
