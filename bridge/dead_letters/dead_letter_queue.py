"""Makes dead letters: publishes messages that cannot be handled to the dead-letter queue, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker.trace_headers import trace_field
from bridge.dead_letters import republishing
from bridge.dead_letters.dead_letter_message import dead_letter_message
from bridge.telemetry import logs
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery
    from bridge.dead_letters.dead_letter_message import DeadLetterCause
    from bridge.dead_letters.republishing import MessagePublisher
    from bridge.telemetry.metrics import Metrics

log = logs.logger("dead_letters")


class DeadLetterQueue:
    """Moves messages to the dead-letter queue."""

    def __init__(
        self, publisher: MessagePublisher, *, queue: str, longest_wait: float, metrics: Metrics
    ) -> None:
        """Create it. Nothing is declared here.

        Args:
            publisher: sends the dead letters.
            queue: the dead-letter queue.
            longest_wait: seconds between two attempts while RabbitMQ does not confirm.
            metrics: counts dead letters by reason.
        """
        self._publisher = publisher
        self._queue = queue
        self._longest_wait = longest_wait
        self._metrics = metrics

    async def move_to_dead_letters(self, incoming: Delivery, cause: DeadLetterCause) -> None:
        """Publish a copy as a dead letter; returns when RabbitMQ has confirmed it, however long that takes.

        Only then may the caller acknowledge the original.
        """
        history = cause.history
        message = dead_letter_message(
            incoming.properties, incoming.body, cause, queue=self._queue, at=unix_ms_now()
        )
        await republishing.publish_until_confirmed(
            self._publisher,
            message,
            longest_wait=self._longest_wait,
            retry_action="worker.dead_letter_waiting",
        )
        self._metrics.dead_letters.labels(cause.reason).inc()
        log.warning(
            "a message became a dead letter",
            action="worker.dead_letter",
            event_id=message.message_id,
            reason=cause.reason,
            attempts=history.attempt,
            where=history.where,
            error=history.error,
            **trace_field(incoming.properties),
        )
