"""Histories of an honest bridge with one thing changed, wherever it may be: the checker refuses each."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.history.checker import check
from tests.support.history.history import History
from tests.support.history.honest import honest_history
from tests.support.history.records import (
    OK,
    Changed,
    Delivered,
    FinalChanges,
    FinalList,
    Leftover,
    ListEntry,
    PostEnded,
    PostInvoked,
    ReadEnded,
    body_hash,
)
from tests.support.history.violations import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.history.records import Record

    Records = list[Record]
    Mutation = Callable[[Records, Random], Records]

_EXAMPLES: Final = 15


def _some(records: Records, random: Random, type_: type[Record], **values: Any) -> Any:
    """One of these records."""
    found = [
        one
        for one in records
        if isinstance(one, type_) and all(getattr(one, name) == value for name, value in values.items())
    ]
    return random.choice(found)


def _instead(records: Records, old: Record, **values: Any) -> Records:
    return [replace(one, **values) if one is old else one for one in records]


def _accepted(records: Records, random: Random) -> PostInvoked:
    ended = _some(records, random, PostEnded, result=OK)
    return next(one for one in records if isinstance(one, PostInvoked) and one.op == ended.op)


def drop_a_delivery(records: Records, random: Random) -> Records:
    body = _accepted(records, random).body
    dropped = _some(records, random, Delivered, body=body)
    return [
        one
        for one in records
        if not (isinstance(one, Delivered) and (one.body, one.queue) == (dropped.body, dropped.queue))
    ]


def change_a_body(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, Delivered), body=body_hash(b"another"))


def rename_a_delivery(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, Delivered), name="clicked")


def give_another_id(records: Records, random: Random) -> Records:
    body = _accepted(records, random).body
    return _instead(records, _some(records, random, Delivered, body=body), event_id="another")


def deliver_too_early(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, Delivered), at=0)


def refuse_what_was_accepted(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, PostEnded, result=OK), result="fail", status="400")


def add_a_change(records: Records, random: Random) -> Records:
    again = _some(records, random, Changed)
    latest = max(one.id for one in records if isinstance(one, Changed))
    return [*records, replace(again, id=latest + 1, at=records[-1].at + 1)]


def drop_a_change(records: Records, random: Random) -> Records:
    dropped = _some(records, random, Changed)
    return [one for one in records if not (isinstance(one, Changed) and one.id == dropped.id)]


def swap_two_changes(records: Records, random: Random) -> Records:
    one = _some(records, random, Changed)
    of_address = {it.id for it in records if isinstance(it, Changed) and it.address == one.address}
    other = random.choice(sorted(of_address - {one.id}) or [one.id + 10_000])
    if other >= 10_000:  # it has but one: then it comes under an id that another address has
        other = next(it.id for it in records if isinstance(it, Changed) and it.id != one.id)
    swapped = {one.id: other, other: one.id}
    return [replace(it, id=swapped.get(it.id, it.id)) if isinstance(it, Changed) else it for it in records]


def alter_a_change(records: Records, random: Random) -> Records:
    one = _some(records, random, Changed)
    return _instead(records, one, action={"added": "updated", "updated": "added"}[one.action])


def forget_a_reason(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, Changed), reasons=())


def drop_from_the_log(records: Records, random: Random) -> Records:
    log = _some(records, random, FinalChanges)
    gone = random.choice(log.changes)
    return _instead(records, log, changes=tuple(one for one in log.changes if one != gone))


def add_to_the_log(records: Records, random: Random) -> Records:
    log = _some(records, random, FinalChanges)
    return _instead(records, log, changes=(*log.changes, (len(log.changes) + 1, "recipient1@example.org")))


def _with_entry(change: Callable[[ListEntry], tuple[ListEntry, ...]]) -> Mutation:
    def mutate(records: Records, random: Random) -> Records:
        final = _some(records, random, FinalList)
        number = random.randrange(len(final.entries))
        entries = (*final.entries[:number], *change(final.entries[number]), *final.entries[number + 1 :])
        return _instead(records, final, entries=entries)

    return mutate


def show_too_much(records: Records, random: Random) -> Records:
    look = _some(records, random, ReadEnded)
    return _instead(records, look, entries=(*look.entries, ListEntry("x@example.org", "manual", 1, 1, 1)))


def leave_something(records: Records, random: Random) -> Records:
    return _instead(records, _some(records, random, Leftover), what=(str(random.randint(1, 9)),))


MUTATIONS: Final[dict[str, Mutation]] = {
    "a delivery is dropped": drop_a_delivery,
    "a body is changed": change_a_body,
    "an event has another name": rename_a_delivery,
    "an event has another id": give_another_id,
    "an event comes before it was posted": deliver_too_early,
    "an event that came was refused": refuse_what_was_accepted,
    "a change is added": add_a_change,
    "a change is dropped": drop_a_change,
    "two changes are swapped": swap_two_changes,
    "a change has another action": alter_a_change,
    "a change has no reason": forget_a_reason,
    "a change is not in the log": drop_from_the_log,
    "a change is only in the log": add_to_the_log,
    "a count is raised": _with_entry(lambda one: (replace(one, count=one.count + 1),)),
    "a count is lowered": _with_entry(lambda one: (replace(one, count=one.count - 1),)),
    "a first time is earlier": _with_entry(
        lambda one: (replace(one, first_event_at=one.first_event_at - 1),)
    ),
    "a last time is later": _with_entry(lambda one: (replace(one, last_event_at=one.last_event_at + 1),)),
    "a cause is another": _with_entry(lambda one: (replace(one, message="0"),)),
    "an entry is dropped": _with_entry(lambda _: ()),
    "an entry is added": _with_entry(lambda one: (one, replace(one, address="x@example.org"))),
    "a look shows too much": show_too_much,
    "something is left": leave_something,
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
@given(seed=st.integers(0, 2**32))
@settings(max_examples=_EXAMPLES, deadline=None)
def test_a_history_with_one_thing_changed_is_refused(mutation: Mutation, seed: int) -> None:
    """Whatever it is, and wherever it stands."""
    random = Random(seed)  # noqa: S311 -- of a test
    records = honest_history(random, events=20, addresses=3, reads=6)
    assert check(History(mutation(records, random)))


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_history_as_it_was_is_accepted(seed: int, listening: bool) -> None:  # noqa: FBT001 -- hypothesis draws it
    """With repeats, redeliveries, events without an answer, a list that lags; whether the changes are heard or not."""
    random = Random(seed)  # noqa: S311 -- of a test
    violations = check(History(honest_history(random, listening=listening)))
    assert not violations, summary(violations)
