"""Shrinking a schedule that fails: what is left fails, and does not without any one of its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.programs.chaos.schedule import Fault
from tests.programs.chaos.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Sequence


def faults(*numbers: int) -> list[Fault]:
    return [Fault(float(number), "kill", f"worker-{number}", 1.0) for number in numbers]


class Failing:
    """A schedule fails if it has one of these sets of faults."""

    def __init__(self, *causes: set[int]) -> None:
        self.causes = [set(faults(*cause)) for cause in causes]
        self.runs: list[list[Fault]] = []

    async def __call__(self, schedule: Sequence[Fault]) -> bool:
        self.runs.append(list(schedule))
        return any(cause <= set(schedule) for cause in self.causes)


@pytest.mark.parametrize("cause", [{0}, {9}, {3, 4}, {0, 9}, {1, 5, 8}, set(range(10))])
async def test_the_cause_is_left(cause: set[int]) -> None:
    """All of it and nothing else, in its order."""
    assert await shrink(faults(*range(10)), Failing(cause)) == faults(*sorted(cause))


async def test_what_fails_without_any_fault_is_said_to() -> None:
    """Then none of the faults is the cause."""
    assert await shrink(faults(*range(6)), Failing(set())) == []


async def test_a_single_fault_is_halved_in_few_runs() -> None:
    """Of 64 faults one is found in a dozen runs, and not in 64."""
    failing = Failing({17})
    assert await shrink(faults(*range(64)), failing) == faults(17)
    assert len(failing.runs) <= 14


@given(st.integers(1, 14).flatmap(
    lambda size: st.tuples(
        st.just(size), st.lists(st.sets(st.integers(0, size - 1), min_size=1), min_size=1, max_size=3)
    )
))  # fmt: skip
async def test_nothing_can_be_left_out_of_what_is_left(given_: tuple[int, list[set[int]]]) -> None:
    """Whatever the causes are: it fails, and without any one of its faults it does not."""
    size, causes = given_
    failing = Failing(*causes)
    left = await shrink(faults(*range(size)), failing)
    assert await failing(left)
    for fault in left:
        assert not await failing([one for one in left if one is not fault])
