"""Publishes a message until RabbitMQ has confirmed it, so that the original can be acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.amqp.backoff import tenacity_wait
from bridge.amqp.publish_errors import PublishError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from bridge.amqp.message_types import Message

log = logs.logger("dead_letters")


class MessagePublisher(Protocol):
    """Publishes a message, and reports its confirm."""

    def publish(self, message: Message) -> Awaitable[None]:
        """Publish. PublishError is raised here, or when the result is awaited."""


async def publish_until_confirmed(
    publisher: MessagePublisher, message: Message, *, longest_wait: float, retry_action: str
) -> None:
    """Publish, and retry until RabbitMQ has confirmed it, however long that takes.

    Args:
        publisher: sends it.
        message: to publish.
        longest_wait: seconds between two attempts while RabbitMQ does not confirm.
        retry_action: the `action` of the log line before each retry.
    """

    def report(retrying: RetryCallState) -> None:
        log.warning(
            "RabbitMQ has not confirmed a message, trying again",
            action=retry_action,
            event_id=message.message_id,
            queue=message.routing_key,
            wait=round(retrying.upcoming_sleep, 2),
            error=str(retrying.outcome.exception() if retrying.outcome else None),
        )

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(PublishError),
        # A nack of the default exchange means that no queue has a copy, so a short backoff does no harm.
        wait=tenacity_wait(longest_wait)
        if message.exchange
        else wait_random_exponential(multiplier=0.1, max=longest_wait),
        before_sleep=report,
    ):
        with attempt:
            await publisher.publish(message)
