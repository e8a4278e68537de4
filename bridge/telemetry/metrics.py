"""The metrics of one process: an object that is passed to everything that counts."""

from __future__ import annotations

import asyncio
import platform
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.telemetry import metric_definitions
from bridge.telemetry.buffered import BufferedAgeHistogram, BufferedCounter, BufferedHistogram
from bridge.telemetry.metric_definitions import MetricDefinitions
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import Counter, Metric

    from bridge.telemetry.buffered import BulkHistogram

OTHER: Final = "other"
"""The label value for all unknown names."""

FLUSH_SECONDS: Final = 1.0
"""A process that is killed loses the counts of this time at most."""

Buffered = TypeVar("Buffered", BufferedCounter, BufferedHistogram, BufferedAgeHistogram)


class Metrics(MetricDefinitions):
    """All metrics of a role, on a registry of their own, so that a test may have several."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self._buffered: list[BufferedCounter | BufferedHistogram] = []
        self._measures = _ScrapeHooks(self.flush)
        self.registry.register(self._measures)  # the first collector, so that its hooks run before the others
        self.build.labels(own_version(), platform.python_version()).set(1)
        self.start_time.set_to_current_time()

    def before_scrape(self, measure: Callable[[], None]) -> None:
        """Call this before each scrape. It sets values that are not kept up to date all the time.

        It is also called now, so that the values exist from the start.
        """
        measure()
        self._measures.calls.append(measure)

    def buffered_counter(self, counter: Counter) -> BufferedCounter:
        """A buffer in front of a counter, or of a child of one with labels."""
        return self._registered(BufferedCounter(counter))

    def buffered_histogram(self, histogram: BulkHistogram, bounds: tuple[float, ...]) -> BufferedHistogram:
        """A buffer in front of a histogram.

        Args:
            histogram: of one with labels, a child.
            bounds: the upper bounds of its buckets, as in `metric_definitions`.
        """
        return self._registered(BufferedHistogram(histogram, bounds))

    def age_histogram(self, stage: str) -> BufferedAgeHistogram:
        """A buffer in front of the age histogram of this stage."""
        return self._registered(
            BufferedAgeHistogram(self.event_age.labels(stage), metric_definitions.AGE_BUCKETS)
        )

    def flush(self) -> None:
        """Move the buffered counts to the metrics. A scrape does this first."""
        for buffered in self._buffered:
            buffered.flush()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _registered(self, buffered: Buffered) -> Buffered:
        self._buffered.append(buffered)
        return buffered


@asynccontextmanager
async def flushed_every_second(metrics: Metrics) -> AsyncIterator[None]:
    """Flush every second and at the end: another process reads the counts of this one, even after its death."""

    async def each_second() -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            metrics.flush()

    keeping = asyncio.create_task(each_second(), name="metrics")
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        metrics.flush()


class _ScrapeHooks(Collector):
    """A collector without metrics, which runs functions before each scrape."""

    def __init__(self, *calls: Callable[[], None]) -> None:
        self.calls = [*calls]

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        for call in self.calls:
            call()
        return []


def name_label(name: str) -> str:
    """The label value of an event's name. Unknown names share one, so that callers cannot add labels without bound."""
    return name if name in KNOWN_NAMES or name == MALFORMED else OTHER
