"""Counters of the roles between two looks: how many a second, and what the ages of events were meanwhile."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bridge.diagnostics.role_status import LabelledValues, RoleStatus

_MEDIAN: Final = 0.5
_MOST: Final = 0.95


@dataclass(frozen=True, slots=True)
class EventAge:
    """From the timestamps of events, which are whole seconds, until the workers had handled them, in seconds."""

    median: float
    """Half of them were handled within this time."""
    most: float
    """95% of them were."""
    rate: float
    """Events handled a second."""


class CounterRates:
    """The rates of one counter, by its label. Each role is compared with itself, so that one that restarts is no peak."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: the sample's name; the time in seconds."""
        self._name = name
        self._clock = clock
        self._before: dict[str, tuple[float, LabelledValues]] = {}

    def read(self, roles: Iterable[RoleStatus]) -> LabelledValues | None:
        """What was counted a second since the last look at each role; None: no role has been seen before.

        A counter that fell was reset by a restart, so all of its value is new, as in Prometheus.
        """
        now, rates, is_known = self._clock(), dict[str, float](), False
        for role in roles:
            if role.problem:
                continue
            counts = role.by_label(self._name)
            if role.url in self._before:
                is_known = True
                then, before = self._before[role.url]
                seconds = max(now - then, 1e-9)
                for label, total in counts.items():
                    grown = total - before.get(label, 0)
                    rate = (grown if grown >= 0 else total) / seconds
                    rates[label] = rates.get(label, 0) + rate
            self._before[role.url] = now, counts
        return rates if is_known else None


def event_age(buckets: Mapping[str, float]) -> EventAge | None:
    """What the buckets of a histogram say; None: no event was handled.

    Args:
        buckets: upper bound (`le`) -> events a second up to it, as Prometheus counts them.
    """
    bounds = sorted((float(bound), rate) for bound, rate in buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    return EventAge(_quantile(bounds, _MEDIAN), _quantile(bounds, _MOST), bounds[-1][1])


def _quantile(bounds: list[tuple[float, float]], share: float) -> float:
    """Within its bucket it is interpolated, as Prometheus does; beyond the last bound it is that bound."""
    wanted, lower, below = share * bounds[-1][1], 0.0, 0.0
    for bound, up_to in bounds:
        if up_to >= wanted:
            if math.isinf(bound):
                return lower
            within = (wanted - below) / (up_to - below) if up_to > below else 1.0
            return lower + (bound - lower) * within
        lower, below = bound, up_to
    return lower
