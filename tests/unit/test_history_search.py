"""The search for an order, against all orders tried one by one."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.history import policy_model
from tests.support.history.history import Read
from tests.support.history.order_search import NEVER, Search, Step, Undecided, explained
from tests.support.history.policy_model import NOTHING, Cause
from tests.support.history.records import OK, ListEntry, ReadEnded, ReadInvoked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.policy_model import State

_moments = st.integers(0, 12)
_entries = st.one_of(
    st.just(()),
    st.builds(
        lambda count, first, longer: (ListEntry("a", "hard_bounce", count, first, first + longer),),
        st.integers(1, 3),
        st.integers(1, 2),
        st.integers(0, 1),
    ),
)


@st.composite
def _steps(draw: st.DrawFn) -> Step:
    begins = draw(_moments)
    ends = draw(st.one_of(st.just(NEVER), st.integers(begins, 14)))
    cause = Cause("hard_bounce", draw(st.integers(1, 3)), "m")
    return Step(cause, begins, ends, certain=ends != NEVER or draw(st.booleans()))


@st.composite
def _reads(draw: st.DrawFn) -> Read:
    begins = draw(_moments)
    ends = draw(st.integers(begins, 14))
    asked = ReadInvoked(at=begins, wall=0.0, op=1, address="a")
    return Read(asked, ReadEnded(at=ends, wall=0.0, op=1, result=OK, entries=draw(_entries)), (1, 2))


@given(
    st.lists(_steps(), max_size=3),
    st.lists(_reads(), max_size=3),
    st.one_of(st.none(), _entries),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_it_finds_an_order_where_there_is_one(
    steps: list[Step],
    reads: list[Read],
    final: tuple[ListEntry, ...] | None,
    in_order: bool,  # noqa: FBT001 -- hypothesis draws it
) -> None:
    """And none where there is none."""
    search = Search(tuple(steps), in_order, tuple(reads), final)
    assert explained(search) == any(map(_fits, _all_orders(search)))


def test_it_gives_up_when_its_budget_is_used() -> None:
    """It does not say that there is none."""
    steps = tuple(Step(Cause("hard_bounce", number, "m"), 0) for number in range(12))
    impossible = (ListEntry("a", "hard_bounce", 99, 1, 1),)
    with pytest.raises(Undecided):
        explained(Search(steps, in_order=False, reads=(), final=impossible), budget=50)


def test_events_that_say_the_same_are_one_to_it() -> None:
    """Twenty of them have but one order."""
    steps = tuple(Step(Cause("hard_bounce", 1, "m"), 0) for _ in range(20))
    assert not explained(
        Search(steps, in_order=False, reads=(), final=(ListEntry("a", "hard_bounce", 99, 1, 1),)), budget=50
    )


def _all_orders(search: Search) -> Iterator[tuple[list[Step | Read], tuple[ListEntry, ...] | None]]:
    """Each choice of the events that may have come, in each order, with the looks at each place."""
    certain = [step for step in search.steps if step.certain or search.in_order]
    possible = [step for step in search.steps if not (step.certain or search.in_order)]
    for size in range(len(possible) + 1):
        for chosen in combinations(possible, size):
            operations: list[Step | Read] = [*certain, *chosen, *search.reads]
            for order in permutations(range(len(operations))):
                row = [operations[number] for number in order]
                if search.in_order and [one for one in row if isinstance(one, Step)] != list(search.steps):
                    continue
                yield row, search.final


def _fits(order: tuple[list[Step | Read], tuple[ListEntry, ...] | None]) -> bool:
    """Whether each takes effect in its interval, and the looks show what is there."""
    row, final = order
    now: float = 0
    state: State = NOTHING
    for one in row:
        begins, ends = (one.begins, one.ends) if isinstance(one, Step) else (one.invoked.at, one.ended.at)
        now = max(now, begins)
        if now > ends:
            return False
        if isinstance(one, Step):
            state = policy_model.applied(state, one.cause)
        elif not policy_model.shows(state, one.ended.entries):
            return False
    return final is None or policy_model.shows(state, final)
