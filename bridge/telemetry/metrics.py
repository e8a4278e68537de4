"""What is counted, one object for each process, handed to the rooms that count."""

from __future__ import annotations

import asyncio
import platform
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.telemetry import instruments
from bridge.telemetry.buffered import Ages, Spread, Tally
from bridge.telemetry.instruments import Instruments
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import Counter, Metric

    from bridge.telemetry.buffered import BulkHistogram

OTHER: Final = "other"
"""The label value that all names share which nobody knows."""

HAND_OVER_SECONDS: Final = 1.0
"""How much counting a process that is killed may take with it."""

Cheap = TypeVar("Cheap", Tally, Spread, Ages)


class Metrics(Instruments):
    """All instruments of a role, on a registry of their own, so that a test may have several."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self._tallies: list[Tally | Spread] = []
        self._measures = _Measures(self.hand_over)
        self.registry.register(self._measures)  # the first, so that it is asked before all that it measures
        self.build.labels(own_version(), platform.python_version()).set(1)

    def before_reading(self, measure: Callable[[], None]) -> None:
        """Have this called each time before the values are read: it sets what is not worth keeping up to date.

        It is called now as well, so that what it sets is there when it is read for the first time.
        """
        measure()
        self._measures.calls.append(measure)

    def tally(self, counter: Counter) -> Tally:
        """A cheap way to count; of a counter with labels, a child is given."""
        return self._handed_over(Tally(counter))

    def spread(self, histogram: BulkHistogram, bounds: tuple[float, ...]) -> Spread:
        """A cheap way to observe.

        Args:
            histogram: of one with labels, a child.
            bounds: of its buckets, as in `instruments`.
        """
        return self._handed_over(Spread(histogram, bounds))

    def ages(self, stage: str) -> Ages:
        """A cheap way to observe how old events are when they have come so far."""
        return self._handed_over(Ages(self.event_age.labels(stage), instruments.AGES))

    def hand_over(self) -> None:
        """Give what was counted the cheap way to the instruments. Reading the values does it first."""
        for tally in self._tallies:
            tally.hand_over()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _handed_over(self, cheap: Cheap) -> Cheap:
        self._tallies.append(cheap)
        return cheap


@asynccontextmanager
async def kept(metrics: Metrics) -> AsyncIterator[None]:
    """Hand over each second, and at the end: for a process whose counts others read when it has died."""

    async def each_second() -> None:
        while True:
            await asyncio.sleep(HAND_OVER_SECONDS)
            metrics.hand_over()

    keeping = asyncio.create_task(each_second(), name="metrics")
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        metrics.hand_over()


class _Measures(Collector):
    """Nothing to collect, but asked whenever something is."""

    def __init__(self, *calls: Callable[[], None]) -> None:
        self.calls = [*calls]

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        for call in self.calls:
            call()
        return []


def name_label(name: str) -> str:
    """Unknown names share one label value, so that a caller cannot grow the metrics without bound."""
    return name if name in KNOWN_NAMES or name == MALFORMED else OTHER
