"""Looks for an order of an address' events that explains every look at the list: Wing and Gong's search, with memory.

As in Porcupine and Knossos each operation has an interval, and takes effect at one moment within it. That of an event begins when it
is posted, and ends when a change that it made was published, or never: the list may lag behind. That of a look begins when it is
asked and ends when it is answered. A look changes nothing, so one that fits where the search stands is taken there at once: no order
is lost by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.history import policy_model
from tests.support.history.policy_model import NOTHING, Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.history import Read
    from tests.support.history.policy_model import State
    from tests.support.history.records import ListEntry

BUDGET: Final = 20_000
"""States that are looked at before the search gives up."""
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Step:
    """An event that may have changed the list."""

    cause: Cause
    begins: float
    """Not before, ns."""
    ends: float = NEVER
    """Not after, ns."""
    certain: bool = True
    """Whether it must have; else it may."""


class Search(NamedTuple):
    """What is to be explained of one address."""

    steps: tuple[Step, ...]
    in_order: bool
    """They were applied in this order, all of them; else in any."""
    reads: tuple[Read, ...]
    final: tuple[ListEntry, ...] | None
    """None: nobody has looked at the end."""


class Undecided(Exception):  # noqa: N818 -- it is no error of the history
    """The search has used its budget."""


def explained(search: Search, *, budget: int = BUDGET) -> bool:
    """Whether there is such an order.

    Raises:
        Undecided: it is not found within the budget, and not excluded either.
    """
    reads = sorted(search.reads, key=lambda read: read.ended.at)
    walk = _Walk(search, reads)
    return walk.straight() if search.in_order else walk.any_order(budget)


class _Walk:
    def __init__(self, search: Search, reads: Sequence[Read]) -> None:
        self._steps = search.steps
        self._reads = reads
        self._final = search.final
        self._certain = sum(1 << number for number, step in enumerate(search.steps) if step.certain)

    def straight(self) -> bool:
        """In the order that the changes have: there is nothing to try."""
        state, pending = NOTHING, list(range(len(self._reads)))
        ends = self._latest()
        for number, step in enumerate(self._steps):
            pending = self._taken(state, pending, ends[number])
            if min(self._first_end(pending), ends[number]) < step.begins:
                return False
            state = policy_model.applied(state, step.cause)
        return not self._taken(state, pending, NEVER) and self._is_final(state)

    def any_order(self, budget: int) -> bool:
        """Depth first; where it has been with the same events applied and the same looks explained it does not go again."""
        seen: set[tuple[int, tuple[int, ...]]] = set()
        stack: list[tuple[int, State, list[int]]] = [(0, NOTHING, list(range(len(self._reads))))]
        while stack:
            applied, state, pending = stack.pop()
            pending = self._taken(state, pending, self._end_of_rest(applied))
            key = (applied, tuple(pending))
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > budget:
                raise Undecided
            if not pending and applied & self._certain == self._certain and self._is_final(state):
                return True
            stack += [
                (applied | 1 << number, policy_model.applied(state, self._steps[number].cause), pending)
                for number in self._next(applied, pending)
            ]
        return False

    def _next(self, applied: int, pending: list[int]) -> Iterator[int]:
        """Events that may come next, the best guess last. Of several that say the same at the same time one will do."""
        limit = min(self._first_end(pending), self._end_of_rest(applied))
        rest = [
            number
            for number, step in enumerate(self._steps)
            if not applied >> number & 1 and step.begins <= limit
        ]
        rest.sort(key=lambda number: (self._steps[number].certain, -self._steps[number].begins))
        told: set[Step] = set()
        for number in rest:
            if self._steps[number] not in told:
                told.add(self._steps[number])
                yield number

    def _taken(self, state: State, pending: list[int], limit: float) -> list[int]:
        """What is left of the looks, when those are taken that fit here."""
        while True:
            first_end = min(limit, self._first_end(pending))
            left = [
                number
                for number in pending
                if self._reads[number].invoked.at > first_end
                or not policy_model.shows(state, self._reads[number].ended.entries)
            ]
            if len(left) == len(pending):
                return pending
            pending = left

    def _first_end(self, pending: list[int]) -> float:
        return self._reads[pending[0]].ended.at if pending else NEVER

    def _end_of_rest(self, applied: int) -> float:
        ends = (step.ends for number, step in enumerate(self._steps) if not applied >> number & 1)
        return min(ends, default=NEVER)

    def _latest(self) -> list[float]:
        """For each step: the earliest end of it and of those behind it."""
        ends, soonest = [], NEVER
        for step in reversed(self._steps):
            soonest = min(soonest, step.ends)
            ends.append(soonest)
        return ends[::-1]

    def _is_final(self, state: State) -> bool:
        return self._final is None or policy_model.shows(state, self._final)
