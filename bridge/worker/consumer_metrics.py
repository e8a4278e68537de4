"""The consumer's metrics: deliveries, how long they take, and how old their events are when they are on the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.telemetry import metric_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.amqp.message_types import Delivery
    from bridge.telemetry.buffered import BufferedCounter
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.delivery_result import DeliveryResult

OUTCOMES: Final = ("added", "updated", "counted", "outdated", "repeated", "ignored", "delayed", "dead")
"""The outcomes of an acknowledged delivery."""


class ConsumerMetrics:
    """The metrics of one consumer, over all its sessions."""

    def __init__(self, metrics: Metrics) -> None:
        self.acknowledged = 0
        """How many deliveries have been acknowledged since the start."""
        self._metrics = metrics
        self._first = metrics.buffered_counter(metrics.consumed.labels("no"))
        self._again = metrics.buffered_counter(metrics.consumed.labels("yes"))
        self._handled: dict[str, BufferedCounter] = {}
        for outcome in OUTCOMES:
            self._outcome_counter(outcome)
        self._seconds = metrics.buffered_histogram(metrics.handling_seconds, metric_definitions.SLOW_BUCKETS)
        self._ages = metrics.age_histogram(metric_definitions.HANDLED)

    def watch(self, prefetch: int, unacknowledged: Callable[[], int]) -> None:
        """Show these. Args: how many deliveries may be unacknowledged; how many are."""
        metrics = self._metrics
        metrics.prefetch.set(prefetch)
        metrics.before_scrape(lambda: metrics.unacknowledged_messages.set(unacknowledged()))

    def taken(self, delivery: Delivery) -> None:
        """A delivery has come."""
        if delivery.redelivered:
            self._again.count += 1
        else:
            self._first.count += 1

    def acknowledging(self, results: Sequence[DeliveryResult], seconds: Sequence[float], now: float) -> None:
        """These deliveries are about to be acknowledged.

        Args:
            results: how they were handled.
            seconds: how long each was unacknowledged, in any order.
            now: Unix seconds.
        """
        self.acknowledged += len(results)
        observe_seconds, observe_age = self._seconds.observe, self._ages.observe
        for (_, outcome, _, happened_at), one in zip(results, seconds, strict=True):
            (self._handled.get(outcome) or self._outcome_counter(outcome)).count += 1
            observe_seconds(one)
            if happened_at is not None:
                observe_age(now - happened_at)

    def _outcome_counter(self, outcome: str) -> BufferedCounter:
        made = self._handled[outcome] = self._metrics.buffered_counter(self._metrics.handled.labels(outcome))
        return made
