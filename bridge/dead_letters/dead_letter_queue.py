"""The dead letters: where a message goes that cannot be handled, with the reason."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.dead_letters import republishing
from bridge.telemetry import logs

if TYPE_CHECKING:
    from bridge.amqp.deliveries import Delivery
    from bridge.dead_letters.delay_queues import History
    from bridge.dead_letters.republishing import Publishing
    from bridge.telemetry.metrics import Metrics

log = logs.logger("deadletters")

REASON_HEADER: Final = "dead-reason"
"""A word to filter by, for example `malformed` or `unknown-message`."""
ERROR_HEADER: Final = "dead-error"
"""One line for people: what went wrong."""
AT_HEADER: Final = "dead-at"
"""When it was given up, Unix milliseconds."""

HEADERS: Final = (REASON_HEADER, ERROR_HEADER, AT_HEADER)
"""Beside them stand those of `retries.HEADERS`: how often it was tried, since when, and where it failed last."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message is given up."""

    reason: str
    """A word to filter by."""
    history: History
    """Of all its attempts; its error is the reason for people."""


class DeadLetters:
    """The dead-letter queue, as the place to move messages to."""

    def __init__(self, publisher: Publishing, *, queue: str, longest_wait: float, metrics: Metrics) -> None:
        """Make the place; nothing is declared here.

        Args:
            publisher: sends the dead letters.
            queue: their queue.
            longest_wait: between two attempts while RabbitMQ does not confirm, in seconds.
            metrics: counts dead letters by reason.
        """
        self._publisher = publisher
        self._queue = queue
        self._longest_wait = longest_wait
        self._metrics = metrics

    async def bury(self, incoming: Delivery, dead: DeadLetter) -> None:
        """Move a message here; returns when RabbitMQ has confirmed it, however long that takes.

        The original is the caller's to acknowledge, and only then.
        """
        history = dead.history
        headers = {
            REASON_HEADER: dead.reason,
            ERROR_HEADER: history.error,
            AT_HEADER: time.time_ns() // 1_000_000,
        }
        message = republishing.of_message(incoming, queue=self._queue, headers=history.headers() | headers)
        await republishing.move(
            self._publisher, message, longest_wait=self._longest_wait, waiting="worker.dead_letter_waiting"
        )
        self._metrics.dead_letters.labels(dead.reason).inc()
        log.warning(
            "moved a message to the dead letters",
            action="worker.dead_letter",
            event_id=message.message_id,
            reason=dead.reason,
            attempts=history.attempt,
            where=history.where,
            error=history.error,
        )
