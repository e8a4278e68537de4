"""Since when each problem stands, and which of them are over: remembered from look to look."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.diagnostics.problems import Problem, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.diagnostics.status import Status

_MOST_ENDED: Final = 20
_BY_MANAGEMENT: Final = frozenset({ProblemKind.NODE_DOWN, ProblemKind.ALARM, ProblemKind.BINDING_MISSING})
_BY_BROKER: Final = _BY_MANAGEMENT | {
    ProblemKind.QUEUE_MISSING,
    ProblemKind.NO_WORKER,
    ProblemKind.DEAD_LETTERS,
    ProblemKind.QUARANTINE,
    ProblemKind.BACKFILL,
}
_BY_ROLES: Final = frozenset(
    {ProblemKind.BREAKER_OPEN, ProblemKind.SUBSCRIBER_IDLE, ProblemKind.ROLE_NOT_READY}
)

_CAUSES: Final = (
    ProblemKind.BROKER_DOWN,
    ProblemKind.DATABASE_DOWN,
    ProblemKind.ALARM,
    ProblemKind.NODE_DOWN,
    ProblemKind.ROLE_SILENT,
    ProblemKind.BREAKER_OPEN,
)
"""What others follow from comes first."""

Key = tuple[ProblemKind, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """A problem that stands now."""

    problem: Problem
    since: float
    """Unix seconds of the first look that has seen it."""
    is_older: bool
    """Whether that was the first look of all: it may have begun before."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A problem that is over."""

    problem: Problem
    """As it was seen last."""
    since: float
    until: float
    """Unix seconds of the first look that has not seen it any more."""


class Memory:
    """Remembers when each problem was first seen."""

    def __init__(self) -> None:
        self._standing: dict[Key, Standing] = {}
        self._ended: deque[Ended] = deque(maxlen=_MOST_ENDED)
        self._looked = False

    @property
    def ended(self) -> tuple[Ended, ...]:
        """The last ones that are over, the newest first."""
        return tuple(reversed(self._ended))

    def add(self, at: float, problems: Sequence[Problem], status: Status | None) -> tuple[Standing, ...]:
        """The next look: every problem that it has seen, with its time; those first from which others follow.

        What this look could not see is not over: its time is kept, in case it is seen again.

        Args:
            at: Unix seconds.
            problems: what is wrong.
            status: tells what could not be seen; None: nothing was.
        """
        unseen = _unseen_kinds(status)
        now: dict[Key, Standing] = {}
        for problem in problems:
            before = self._standing.get(problem.key)
            now[problem.key] = (
                Standing(problem, at, not self._looked)
                if before is None
                else Standing(problem, before.since, before.is_older)
            )
        for key, before in self._standing.items():
            if key in now:
                continue
            if key[0] in unseen:
                now[key] = before
            else:
                self._ended.append(Ended(before.problem, before.since, at))
        self._standing, self._looked = now, True
        seen = [now[key] for key in dict.fromkeys(problem.key for problem in problems)]
        return tuple(sorted(seen, key=lambda one: _rank(one.problem.kind)))


def _rank(kind: ProblemKind) -> int:
    return _CAUSES.index(kind) if kind in _CAUSES else len(_CAUSES)


def _unseen_kinds(status: Status | None) -> frozenset[ProblemKind]:
    if status is None:
        return frozenset(ProblemKind)
    unseen: frozenset[ProblemKind] = frozenset()
    if status.broker.problem:
        unseen |= _BY_BROKER
    if status.broker.blind:
        unseen |= _BY_MANAGEMENT
    if any(role.problem for role in status.roles):
        unseen |= _BY_ROLES
    return unseen
