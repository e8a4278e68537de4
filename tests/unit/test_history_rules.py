"""False histories: the checker refuses each for the reason that it is false for, in words that a stranger understands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.history import list_rules
from tests.support.history.checker import check
from tests.support.history.policy_model import EVERY_REASON, Policy
from tests.support.history.records import Subscribed
from tests.support.history.rules import RULES
from tests.support.history.telling import JANE, Told, entry

if TYPE_CHECKING:
    from collections.abc import Callable

JOHN: Final = "john@example.org"
OPENED: Final = "opened"


def kept() -> Told:
    """What is told of a bridge that has kept its promises: two bounces of Jane's, and an opening."""
    return (
        Told()
        .posted(1, at=100)
        .posted(2, at=90)
        .posted(3, name=OPENED)
        .looked()
        .came(1)
        .changed(1, "added", 1, reasons=("hard_bounce",))
        .looked(entry(1))
        .changed(2, "updated", 2, reasons=("hard_bounce",))
        .came(2)
        .came(3, name=OPENED)
        .looked(entry(2, 90, 100))
    )


def ended() -> Told:
    return kept().ends(entry(2, 90, 100, message="2"), log={1: JANE, 2: JANE}).left("outbox").left("spool")


ALLOWED: Final[dict[str, Callable[[], Told]]] = {
    "all promises kept": ended,
    "a message delivered twice": lambda: ended().came(1).came(1),
    "a change published twice": lambda: ended().changed(1, "added", 1, reasons=("hard_bounce",)),
    "no answer, and it has come": lambda: Told().posted(1, result="info", name=OPENED).came(1, name=OPENED),
    "no answer, and it has not come": lambda: Told().posted(1, result="info").ends(),
    "no end of the POST, and it is on the list": lambda: (
        Told().began(1).changed(1, "added", 1, event_id="x").came(1, event_id="x").ends(entry(1))
    ),
    "no answer, on the list, never delivered": lambda: (
        Told().posted(1, result="info").changed(1, "added", 1, event_id="x").ends(entry(1))
    ),
    "posted again after no answer": lambda: (
        Told().posted(1, result="info").posted(1).came(1).came(1).changed(1, "added", 1).ends(entry(1))
    ),
    "refused once, accepted later": lambda: (
        Told().posted(1, result="fail", name=OPENED).posted(1, name=OPENED).came(1, name=OPENED)
    ),
    "posted before the queue was bound": lambda: (
        Told().posted(1, name=OPENED).came(1, name=OPENED).subscribed("late", "#")
    ),
    "a queue that is not bound to it": lambda: (
        Told().subscribed("bounces", "hard_bounced").posted(1, name=OPENED).came(1, name=OPENED)
    ),
    "two reasons": lambda: (
        Told().posted(1).posted(2, name="complained").came(1).came(2, name="complained")
        .changed(1, "added", 1, reasons=("hard_bounce",))
        .changed(2, "added", 2, reason="complaint", reasons=("complaint",))
        .ends(entry(1), entry(1, reason="complaint"))
    ),
    "a look that lags": lambda: (
        Told().posted(1).came(1).looked().looked(entry(1)).looked(entry(1)).changed(1, "added", 1).ends(entry(1))
    ),
    "two looks at once, the later answer older": lambda: (
        Told().posted(1).came(1).asks().looked(entry(1)).changed(1, "added", 1).ends(entry(1))
    ),
    "somebody else's address": lambda: (
        Told().out_of_sight("else.example").changed(1, "removed", 7, address="a@else.example", event_id=None)
        .ends(entry(1, address="b@else.example"), log={1: "a@else.example", 2: "b@else.example"})
    ),
    "an address that the client does not know": lambda: Told().posted(1, address=None).came(1),
    "an answer without an id": lambda: (
        Told().posted(1, name=OPENED, event_id="").came(1, name=OPENED, event_id="")
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_is_allowed_is_accepted(story: Callable[[], Told]) -> None:
    """At least once, without order, and late: that is what is promised."""
    assert check(story().history()) == []


FALSE: Final[dict[str, tuple[str, Callable[[], Told], str]]] = {
    # What was answered 200 is in each queue that is bound to it.
    "answered and never delivered": ("lost-event", lambda: Told().posted(1, name=OPENED), "opened of message 1 (event e1) was answered 200, and queue all"),
    "spooled and never delivered": ("lost-event", lambda: ended().posted(4, name=OPENED), "never handed it over"),
    "delivered to one queue of two": (
        "lost-event",
        lambda: Told().subscribed("crm", OPENED).posted(1, name=OPENED).came(1, name=OPENED),
        "queue crm, which is bound to it",
    ),
    "another event in its place": ("lost-event", lambda: Told().posted(1, name=OPENED).posted(2, name=OPENED).came(1, name=OPENED).came(1, name=OPENED), "opened of message 2"),
    # Nothing comes that was not sent.
    "an event that nobody posted": ("unsent-event", lambda: ended().came(9, name=OPENED), "nobody has posted its body body-9"),
    "a body that was altered": ("unsent-event", lambda: ended().came(3, name=OPENED, body="body-3-and-more", event_id="other"), "body-3-and-more"),
    "an event that was refused": ("refused-event", lambda: Told().posted(1, name=OPENED, result="fail").came(1, name=OPENED), "although every POST of it was refused"),
    "refused twice, and delivered": (
        "refused-event",
        lambda: Told().posted(1, name=OPENED, result="fail").posted(1, name=OPENED, result="fail").came(1, name=OPENED),
        "although every POST",
    ),
    "delivered before it was posted": ("early-event", lambda: Told().came(1, name=OPENED).posted(1, name=OPENED), "before it was posted"),
    "under another name": ("wrong-name", lambda: Told().posted(1, name=OPENED).came(1, name="clicked"), "clicked e1, which was posted as opened"),
    "to a queue that is not bound to it": (
        "misrouted-event",
        lambda: Told().subscribed("crm", OPENED).posted(1, name="clicked").came(1, name="clicked").came(1, name="clicked", queue="crm"),
        "is not bound to clicked",
    ),
    # An id has one body.
    "an id with two bodies": (
        "two-bodies",
        lambda: Told().posted(1, name=OPENED, event_id="same").posted(2, name=OPENED, event_id="same").came(1, name=OPENED, event_id="same").came(2, name=OPENED, event_id="same"),
        "event same has two bodies",
    ),
    "a delivery under another event's id": (
        "two-bodies",
        lambda: Told().posted(1, name=OPENED).posted(2, name=OPENED, event_id="").came(1, name=OPENED).came(2, name=OPENED, event_id="e1"),
        "event e1 has two bodies",
    ),
    "a repeat with an id of its own": ("two-ids", lambda: ended().came(3, name=OPENED, event_id="other"), "opened of message 3 has two ids, e3 and other"),
    "answered under two ids": (
        "two-ids",
        lambda: Told().posted(1, name=OPENED).posted(1, name=OPENED, event_id="new").came(1, name=OPENED),
        "nobody can drop the repeat",
    ),
    # The list at the end.
    "a bounce that is not on the list": ("lost-entry", lambda: Told().posted(1).came(1).without(Subscribed).ends(), f"{JANE} is not on the list for hard_bounce"),
    "one reason of two": (
        "lost-entry",
        lambda: kept().posted(4, name="complained").came(4, name="complained").ends(entry(2, 90, 100)),
        "is not on the list for complaint, and complained of message 4",
    ),
    "an entry for nothing": ("unexplained-entry", lambda: kept().ends(entry(2, 90, 100), entry(1, address=JOHN)), f"{JOHN} is on the list for hard_bounce, and no event asks for it"),
    "an entry of an opening": ("unexplained-entry", lambda: Told().posted(1, name=OPENED).came(1, name=OPENED).ends(entry(1, reason="opened")), "no event asks for it"),
    "an entry of a refused event": ("unexplained-entry", lambda: Told().posted(1, result="fail").ends(entry(1)), "no event asks for it"),
    "an event that was not counted": ("count-too-low", lambda: kept().ends(entry(1, 100)), "is counted 1 for hard_bounce, and 2 events were answered 200"),
    "an event that was counted twice": ("count-too-high", lambda: kept().ends(entry(3, 90, 100)), "only 2 events ask for it: one was counted twice"),
    "a first time that is too late": ("wrong-times", lambda: kept().ends(entry(2, 100, 100)), "from 100 to 100, counted 2"),
    "a last time that nothing has": ("wrong-times", lambda: kept().ends(entry(2, 90, 120)), "no choice of its events"),
    "the time of an event that cannot be in it": (
        "wrong-times",
        lambda: Told().without(Subscribed).posted(1, at=100).posted(2, at=90, result="info").ends(entry(1, 90, 100)),
        "no choice of its events",
    ),
    "a cause that was not the first": ("wrong-cause", lambda: kept().ends(entry(2, 90, 100, message="1")), "because of message 1, whose event is not its earliest"),
    # The changes.
    "an event without a change": ("lost-change", lambda: kept().posted(4).came(4).ends(entry(3, 90, 100)), "hard_bounced of message 4 (event e4) was answered 200, and no change was published"),
    "an event without an answer and a change": (
        "lost-change",
        lambda: kept().posted(4, result="info").ends(entry(3, 90, 100)),
        "is counted 3 for hard_bounce, and 2 changes were published",
    ),
    "a change of the log that was not published": ("change-gap", lambda: kept().ends(entry(2, 90, 100), log={1: JANE, 2: JANE, 3: JOHN}), f"{JOHN}: change 3 is in the log of the list, and was never published"),
    "a gap in the middle": (
        "change-gap",
        lambda: Told().posted(1).came(1).changed(3, "added", 1).ends(entry(1), log={2: JANE, 3: JANE}),
        "change 2 is in the log",
    ),
    "a change that the log does not have": ("change-from-nowhere", lambda: kept().ends(entry(2, 90, 100), log={1: JANE}), "change 2 was published, and the log of the list does not have it"),
    "a repeat that says something else": (
        "altered-change",
        lambda: ended().changed(2, "updated", 2, reasons=("complaint", "hard_bounce")),
        "change 2 was published twice, and says something else the second time",
    ),
    "an older change after a newer": (
        "change-order",
        lambda: Told().posted(1).posted(2).came(1).came(2).changed(2, "updated", 2).changed(1, "added", 1).ends(entry(2)),
        f"{JANE}: change 1 was published after change 2",
    ),
    "a change without an event": ("unexplained-change", lambda: kept().changed(3, "added", 9, address=JOHN), "change 3 (added, hard_bounce) has no event that explains it"),
    "a removal that nobody made": ("unexplained-change", lambda: kept().changed(3, "removed", 1), "change 3 (removed, hard_bounce) has no event"),
    "a change by a refused event": (
        "unexplained-change",
        lambda: Told().posted(1, result="fail").changed(1, "added", 1),
        "every POST of which was refused",
    ),
    "a change by an event that suppresses nobody": ("unexplained-change", lambda: kept().changed(3, "updated", 3), "opened of message 3 (event e3), which is no reason for it"),
    "a change of another address": ("unexplained-change", lambda: kept().changed(3, "added", 1, address=JOHN), f"which was sent to {JANE}"),
    "an event that was counted twice, and said so": ("second-change", lambda: kept().changed(3, "updated", 1), "as is change 1: an event was counted twice"),
    "a change before its event": ("early-change", lambda: Told().changed(1, "added", 1).posted(1).came(1).ends(entry(1)), "was published before its event was posted"),
    "added twice": ("wrong-action", lambda: Told().posted(1).posted(2).came(1).came(2).changed(1, "added", 1).changed(2, "added", 2), "should be `updated`"),
    "updated at first": ("wrong-action", lambda: Told().posted(1).came(1).changed(1, "updated", 1), "is not on the list before it for that reason"),
    "a reason that is not there": (
        "wrong-reasons",
        lambda: Told().posted(1).came(1).changed(1, "added", 1, reasons=("complaint", "hard_bounce")),
        "suppressed for complaint, hard_bounce, and it is for hard_bounce",
    ),
    "not suppressed after it was added": ("wrong-reasons", lambda: Told().posted(1).came(1).changed(1, "added", 1, reasons=()), "suppressed for nothing"),
    # Looks at the list.
    "the list goes back": ("backward-read", lambda: Told().posted(1).posted(2, at=90).came(1).came(2).looked(entry(2, 90, 100)).looked(entry(1)).changed(1, "added", 1).changed(2, "updated", 2), "after a look that showed hard_bounce counted 2, from 90 to 100, one showed hard_bounce counted 1"),
    "an entry that vanishes": (
        "backward-read",
        lambda: Told().without(Subscribed).posted(1).looked(entry(1)).looked(),
        "one showed no entry: the list has gone back",
    ),
    "an entry before the event": ("early-read", lambda: Told().looked(entry(1)).posted(1).came(1).changed(1, "added", 1), "before the events that explain it were posted"),
    "an entry older than a published change": ("stale-read", lambda: Told().posted(1).came(1).changed(1, "added", 1).looked(), "although a change that is not in it had been published"),
    "a count that the list never has": ("unexplained-read", lambda: Told().posted(1).came(1).changed(1, "added", 1).looked(entry(2)), "at no moment in any order"),
    "the second event before the first": (
        "unexplained-read",
        lambda: Told().posted(1, at=100).posted(2, at=90).came(1).came(2).asks().sees(entry(1, 90)).changed(1, "added", 1).changed(2, "updated", 2).ends(entry(2, 90, 100)),
        "at no moment in any order of its events",
    ),
    "a look that no order of unheard events explains": (
        "unexplained-read",
        lambda: Told().without(Subscribed).posted(1, at=100).posted(2, at=90).looked(entry(1, 95)).ends(entry(2, 90, 100)),
        "from 95 to 95",
    ),
    "an entry that is not what its changes make it": (
        "no-order",
        lambda: Told().posted(1).came(1).posted(2, at=90, result="info").posted(3, at=80, result="info").changed(1, "added", 1).changed(2, "updated", 2).ends(entry(2, 80, 100)),
        "no order of its events that gives both its changes and its entries",
    ),
    # What is left.
    "an outbox that is not empty": ("unpublished-change", lambda: kept().left("outbox", "7", "8"), "2 changes were never published: 7, 8"),
    "a dead letter": ("dead-letter", lambda: kept().left("dead letters", "e1"), "1 messages are in the dead letters: e1"),
    "an event in the spool": ("left-in-spool", lambda: kept().left("spool", "spool-0: 3"), "events are in the spool"),
    "a message in a queue": ("left-in-queue", lambda: kept().left("queue", "suppression: 1"), "suppression: 1"),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "story", "words"), FALSE.values(), ids=FALSE.keys())
def test_what_is_false_is_refused_for_that_very_reason(
    rule: str, story: Callable[[], Told], words: str
) -> None:
    """By this rule and no other; the message says what has happened, to whom."""
    violations = check(story().history())
    assert {violation.rule for violation in violations} == {rule}, list(map(str, violations))
    assert words in violations[0].message
    assert violations[0].about


def test_every_rule_has_a_history_that_breaks_it_and_stands_in_the_documentation() -> None:
    """Whoever reads a rule's name in a message finds it in docs/testing.md."""
    broken = {rule for rule, _, _ in FALSE.values()} | {"undecided"}
    page = Path("docs/testing.md").read_text()
    assert broken == set(RULES)
    assert [rule for rule in RULES if f"| `{rule}` |" not in page] == []


def test_a_search_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a violation: what is not decided is not proven."""
    monkeypatch.setattr(list_rules, "BUDGET", 100)
    told = Told().without(Subscribed)
    for number in range(12):
        told.posted(number, at=100 + number)
    (violation,) = check(told.looked(entry(6, 100, 110)).ends(entry(12, 100, 111)).history())
    assert violation.rule == "undecided"
    assert "no order of its 12 events was found, and none excluded" in violation.message


def test_a_dead_letter_that_is_allowed_need_not_be_on_the_list() -> None:
    """A scenario that makes dead letters names their events."""
    told = kept().posted(4).came(4).ends(entry(2, 90, 100)).left("dead letters", "e4")
    assert check(told.history(), dead_letters={"e4"}) == []


def test_a_policy_with_more_reasons_is_a_policy() -> None:
    """Where unsubscriptions suppress, too, they have entries of their own."""
    told = Told().posted(1, name="unsubscribed").came(1, name="unsubscribed")
    told.changed(1, "added", 1, reason="unsubscribe").ends(entry(1, reason="unsubscribe"))
    assert check(told.history(), Policy(EVERY_REASON)) == []
    assert {violation.rule for violation in check(told.history())} == {
        "unexplained-change",
        "unexplained-entry",
    }


def test_a_violation_names_the_lines_of_the_history() -> None:
    """Of the merged one: with it in a file, the lines are there to be read."""
    (violation,) = check(kept().came(9, name=OPENED).history())
    assert str(violation).startswith("unsent-event: queue all has handed over opened e9")
    assert str(violation).endswith("(lines 20)")
