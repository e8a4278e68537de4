"""Dead letters that died of the same thing are one line on a page, whatever their ids are."""

from __future__ import annotations

import pytest

from bridge.dead_letters.dead_letter_description import DeadLetter
from bridge.operations.letter_groups import grouped, kind_of_error


def letter(
    number: int, reason: str, error: str, event: str = "clicked", died: int | None = None
) -> DeadLetter:
    return DeadLetter(f"id-{number}", event, reason, error, 1, died, None, "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "the provider does not know message 900001: it may lag",
            "the provider does not know message 7: it may lag",
        ),
        ("'a b' is not an id that a message can have", "'x' is not an id that a message can have"),
        ("jane@example.org is too long", "bob@example.com is too long"),
        (
            "GET https://h/5f2b6c0d9e8a7f6b was answered 500",
            "GET https://h/aa2b6c0d9e8a7f6b was answered 502",
        ),
        ("message 5f2b6c0d-9e8a-7f6b-5c4d-3e2f1a0b9c8d", "message 5f2b6c0d-9e8a-7f6b-5c4d-000000000000"),
        ("10.0.0.1:5432 did not answer", "10.0.0.27:5432 did not answer"),
    ],
)
def test_what_belongs_to_one_message_makes_no_group_of_its_own(one: str, other: str) -> None:
    """Ids, addresses, quoted values, numbers."""
    assert kind_of_error(one) == kind_of_error(other)


def test_different_errors_stay_apart() -> None:
    """Words make the difference."""
    assert kind_of_error("the host is unknown") != kind_of_error("the host is known")
    assert kind_of_error("it isn't there") == "it isn't there", "an apostrophe quotes nothing"


def test_groups_are_counted_with_their_events_and_times() -> None:
    """The largest first; the letters oldest first; the same key each time, for a URL."""
    letters = [
        letter(1, "malformed", "byte 7", died=30),
        letter(2, "unknown-message", "message 1", "hard_bounced", 10),
        letter(3, "unknown-message", "message 2", "complained"),
        letter(4, "unknown-message", "message 3", "hard_bounced", 20),
    ]
    first, second = grouped(letters)
    assert (first.reason, first.error, len(first.letters)) == ("unknown-message", "message …", 3)
    assert first.events == [("hard_bounced", 2), ("complained", 1)]
    assert (first.oldest, first.newest) == (10, 20)
    assert [one.id for one in first.letters] == ["id-2", "id-3", "id-4"]
    assert (second.reason, second.oldest, second.newest) == ("malformed", 30, 30)
    assert grouped(reversed(letters))[0].key == first.key != second.key
    assert grouped([letter(1, "\ud800", "\ud800")])[0].oldest is None
