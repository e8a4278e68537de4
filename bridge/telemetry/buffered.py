"""Counting where a microsecond matters: in plain Python, handed over to prometheus_client before it is read.

The library's `inc` and `observe` take a lock each, and in a crew write to a file: 0.4 to 2 us. These take a tenth.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Counter

LONGEST_AGE: Final = 30 * 86_400.0
"""Seconds. What is older counts as old as this: one mad timestamp must not weigh more in the sum than all others."""


class BulkHistogram(Histogram):
    """A histogram that many observations can be added to at once, which the library has no way for."""

    def add(self, counts: Iterable[int], total: float) -> None:
        """Add so many observations to each bucket, in the order of the bounds; `total` is the sum of their values."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Tally:
    """A counter."""

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        """Args: what it is handed over to; of one with labels, a child."""
        self._counter = counter
        self.count = 0
        """Since the last time that it was handed over. Whoever counts adds to it."""

    def hand_over(self) -> None:
        count, self.count = self.count, 0
        if count:
            self._counter.inc(count)


class Spread:
    """A histogram."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_total")

    def __init__(self, histogram: BulkHistogram, bounds: tuple[float, ...]) -> None:
        """Args: what it is handed over to; its buckets' upper bounds, without the infinite one."""
        self._histogram = histogram
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def hand_over(self) -> None:
        counts, self._counts = self._counts, [0] * len(self._counts)
        total, self._total = self._total, 0.0
        if any(counts):
            self._histogram.add(counts, total)


class Ages(Spread):
    """A histogram of ages by somebody else's clock: none is below 0, none above `LONGEST_AGE`."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        if value < 0.0:
            value = 0.0
        elif value > LONGEST_AGE:
            value = LONGEST_AGE
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value
