"""The dead letters: where a message goes that cannot be handled, with the reason."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands as spec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.broker.frames import Message, composed
from bridge.broker.message import PERSISTENT
from bridge.broker.publisher import PublishError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from bridge.broker.publisher import Publisher
    from bridge.telemetry.metrics import Metrics

log = logs.logger("deadletters")

REASON_HEADER: Final = "dead-reason"
"""A word to filter by, for example `malformed` or `unknown-message`."""
ERROR_HEADER: Final = "dead-error"
"""One line for people: what went wrong."""
AT_HEADER: Final = "dead-at"
"""When it was given up, Unix milliseconds."""

_ROUTING_ONCE: Final = ("CC", "BCC")
"""Headers that would route the dead letter to other queues as well."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message is given up."""

    reason: str
    """A word to filter by."""
    error: str
    """One line for people."""


class DeadLetters:
    """The dead-letter queue, as the place to move messages to."""

    def __init__(self, publisher: Publisher, *, queue: str, longest_wait: float, metrics: Metrics) -> None:
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

    async def bury(self, incoming: AbstractIncomingMessage, dead: DeadLetter) -> None:
        """Move a message here; returns when RabbitMQ has confirmed it, however long that takes.

        The original is the caller's to acknowledge, and only then.
        """
        message = of_message(dead, incoming, queue=self._queue)

        def report(retrying: RetryCallState) -> None:
            log.warning(
                "a message cannot be moved to the dead letters, trying again",
                action="worker.dead_letter_waiting",
                event_id=incoming.message_id,
                wait=round(retrying.upcoming_sleep, 2),
                error=str(retrying.outcome.exception() if retrying.outcome else None),
            )

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=wait_random_exponential(multiplier=0.1, max=self._longest_wait),
            before_sleep=report,
        ):
            with attempt:
                await self._publisher.publish(message)
        self._metrics.dead_letters.labels(dead.reason).inc()
        log.warning(
            "moved a message to the dead letters",
            action="worker.dead_letter",
            event_id=incoming.message_id,
            reason=dead.reason,
            error=dead.error,
        )


def of_message(dead: DeadLetter, incoming: AbstractIncomingMessage, *, queue: str) -> Message:
    """The message as it came in, with the reason in its headers, for the dead-letter queue.

    Args:
        dead: why it is given up.
        incoming: the message; its body and properties are kept.
        queue: the dead-letter queue, reached through the default exchange.
    """
    headers: dict[str, Any] = {
        # What is no text comes in as bytes, which pamqp writes only as a byte array.
        name: bytearray(value) if isinstance(value, bytes) else value
        for name, value in (incoming.headers or {}).items()
        if name not in _ROUTING_ONCE
    }
    headers |= {
        REASON_HEADER: dead.reason,
        ERROR_HEADER: dead.error,
        AT_HEADER: time.time_ns() // 1_000_000,
    }
    return composed(
        exchange="",
        routing_key=queue,
        properties=spec.Basic.Properties(
            content_type=incoming.content_type,
            content_encoding=incoming.content_encoding,
            delivery_mode=PERSISTENT,
            message_type=incoming.type,
            message_id=incoming.message_id or uuid.uuid4().hex,  # by which a return is told from a confirm
            app_id=incoming.app_id,
            timestamp=incoming.timestamp,
            headers=headers,
        ),
        body=incoming.body,
    )
