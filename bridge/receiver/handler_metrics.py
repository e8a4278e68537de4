"""The handler's metrics: answers, how long they take, accepted events, and how old those are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.receiver import answers
from bridge.telemetry import metric_definitions
from bridge.telemetry.metrics import OTHER

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message
    from bridge.receiver.answers import WebhookAnswer
    from bridge.telemetry.buffered import BufferedCounter
    from bridge.telemetry.metrics import Metrics


class HandlerMetrics:
    """Counts what one handler answers and accepts."""

    def __init__(self, metrics: Metrics) -> None:
        self.answer_count = 0
        """How many requests were answered."""
        self._metrics = metrics
        self._answers: dict[str, BufferedCounter] = {}
        self._received: dict[str, BufferedCounter] = {}
        self._seconds = metrics.buffered_histogram(metrics.answer_seconds, metric_definitions.FAST_BUCKETS)
        self._ages = metrics.age_histogram(metric_definitions.RECEIVED)
        for label in answers.EXPECTED_LABELS:
            self._answer_counter(label)
        for name in (*sorted(KNOWN_NAMES), MALFORMED, OTHER):
            self._received[name] = metrics.buffered_counter(metrics.received.labels(name))
        self._received_other = self._received[OTHER]

    def answered(self, answer: WebhookAnswer, began: float) -> WebhookAnswer:
        """Count this answer, and return it.

        Args:
            answer: about to be sent.
            began: when the request began, by `time.perf_counter`.
        """
        counter = self._answers.get(answer.label) or self._answer_counter(answer.label)
        counter.count += 1
        self._seconds.observe(time.perf_counter() - began)
        self.answer_count += 1
        return answer

    def accepted(self, message: Message, received_at: int) -> None:
        """An event is durable. Args: its message; when it was received, Unix milliseconds."""
        self._received.get(message.routing_key, self._received_other).count += 1
        if message.happened_at is not None:
            self._ages.observe(received_at / 1000 - message.happened_at)

    def _answer_counter(self, label: str) -> BufferedCounter:
        made = self._answers[label] = self._metrics.buffered_counter(self._metrics.answers.labels(label))
        return made
