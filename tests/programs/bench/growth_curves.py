"""Cost against size: what one unit of work costs at each size, and whether the curve of that bends upward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_RATIO: Final = 1.5
"""A unit at the largest size may cost so many times what it costs where it is cheapest: trees of indexes grow, too."""
MOST_EXPONENT: Final = 0.1
"""Of the last step. Work that grows with size x log(size) has about 0.05 at these sizes, with the square 1."""


@dataclass(frozen=True, slots=True)
class Point:
    size: int
    cost: float
    """Of one unit of work at this size."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One kind of work at several sizes, measured in one run."""

    part: str
    """What has the size: the list, the spool ..."""
    what: str
    """What is done, and for what unit."""
    unit: str
    """Of the cost: `us` of CPU, or `bytes`."""
    points: tuple[Point, ...]
    """By ascending size, at least one."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Of the cost at each size to that at the smallest."""
        least = self.points[0].cost
        return tuple(point.cost / least if least else math.inf for point in self.points)

    @property
    def exponent(self) -> float:
        """Of the last step: 0 where the cost of a unit does not grow, 1 where it grows with the size."""
        if len(self.points) == 1:
            return 0.0
        before, last = self.points[-2:]
        if min(before.cost, last.cost) <= 0:
            return 0.0
        return math.log(last.cost / before.cost) / math.log(last.size / before.size)

    @property
    def bends(self) -> bool:
        """Whether a unit costs notably more at the largest size than where it is cheapest, and still more at each step."""
        least = min(point.cost for point in self.points)
        return self.points[-1].cost > MOST_RATIO * least and self.exponent > MOST_EXPONENT


def curve(part: str, what: str, unit: str, costs: Sequence[tuple[int, float]]) -> Curve:
    """A curve of these sizes and costs.

    Raises:
        ValueError: there are none.
    """
    if not costs:
        raise ValueError(f"{part}: {what}: nothing was measured")
    return Curve(part, what, unit, tuple(Point(size, cost) for size, cost in sorted(costs)))
