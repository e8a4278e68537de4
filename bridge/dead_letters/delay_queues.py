"""Publishes messages to the delay queues, where they wait for their next attempt, with the history of the former ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker.copies import copy_of
from bridge.broker.trace_headers import trace_field
from bridge.dead_letters import republishing
from bridge.dead_letters.history import DEAD_LETTER_HEADERS
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.message_types import Delivery
    from bridge.broker.topology import Names
    from bridge.dead_letters.history import RetryHistory
    from bridge.dead_letters.republishing import MessagePublisher
    from bridge.telemetry.metrics import Metrics

log = logs.logger("dead_letters")


class DelayQueues:
    """Moves messages to the delay queues."""

    def __init__(
        self,
        publisher: MessagePublisher,
        *,
        names: Names,
        delays: Sequence[float],
        longest_wait: float,
        metrics: Metrics,
    ) -> None:
        """Create it. `topology_plan.plan` plans the queues.

        Args:
            publisher: sends the messages.
            names: of the queues.
            delays: seconds before the second attempt, the third and so on; the last one repeats.
            longest_wait: seconds between two attempts to publish while RabbitMQ does not confirm.
            metrics: counts retries by reason and delay.
        """
        self._publisher = publisher
        self._names = names
        self._delays = delays
        self._longest_wait = longest_wait
        self._metrics = metrics

    async def delay(self, incoming: Delivery, history: RetryHistory) -> float:
        """Publish a copy to a delay queue; returns for how many seconds, when RabbitMQ has confirmed it.

        Only then may the caller acknowledge the original.

        Args:
            incoming: the message.
            history: of its attempts.
        """
        seconds = self._delays[min(history.attempt, len(self._delays)) - 1]
        message = copy_of(
            incoming.properties,
            incoming.body,
            exchange="",
            routing_key=self._names.retry(seconds),
            headers=history.headers(),
            without=DEAD_LETTER_HEADERS,
        )
        await republishing.publish_until_confirmed(
            self._publisher, message, longest_wait=self._longest_wait, retry_action="worker.retry_waiting"
        )
        self._metrics.retries.labels(history.reason, delay_label(seconds)).inc()
        log.info(
            "a message waits for its next attempt",
            action="worker.retry",
            event_id=message.message_id,
            reason=history.reason,
            attempt=history.attempt,
            delay=seconds,
            where=history.where,
            error=history.error,
            **trace_field(incoming.properties),
        )
        return seconds


def delay_label(seconds: float) -> str:
    """The label of a delay in the metrics."""
    return f"{seconds:g}"
