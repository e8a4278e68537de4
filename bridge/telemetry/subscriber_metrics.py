"""The metrics of other services' queues. Each has one label, the queue, of which there are as many as subscribers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bridge.telemetry.metric_factory import MetricFactory

if TYPE_CHECKING:
    from prometheus_client import Gauge


class SubscriberMetrics(MetricFactory):
    """Every worker looks, so that alerts take the greatest."""

    @cached_property
    def subscriber_ready(self) -> Gauge:
        return self._of_queue("ready_messages", "Messages that wait in a subscriber's queue")

    @cached_property
    def subscriber_unacknowledged(self) -> Gauge:
        help_text = "Messages delivered to a subscriber and not acknowledged yet"
        return self._of_queue("unacknowledged_messages", help_text)

    @cached_property
    def subscriber_consumers(self) -> Gauge:
        return self._of_queue("consumers", "Consumers of a subscriber's queue")

    @cached_property
    def subscriber_dead_letters(self) -> Gauge:
        help_text = "Messages in the queue of a subscriber's dead letters"
        return self._of_queue("dead_letters", help_text)

    @cached_property
    def subscriber_oldest_age(self) -> Gauge:
        help_text = "For how long the oldest message of a subscriber's queue has waited, at least"
        return self._of_queue("oldest_seconds", help_text)

    @cached_property
    def subscriber_idle(self) -> Gauge:
        help_text = "For how long a subscriber has consumed nothing, although it could"
        return self._of_queue("idle_seconds", help_text)

    @cached_property
    def subscriber_consumed_at(self) -> Gauge:
        help_text = "Unix time at which a subscriber was last seen to consume, to within 15 s"
        return self._of_queue("consumed_timestamp_seconds", help_text)

    def _of_queue(self, name: str, help_text: str) -> Gauge:
        return self._gauge(f"bridge_subscriber_{name}", help_text, "queue", multiprocess_mode="livemax")
