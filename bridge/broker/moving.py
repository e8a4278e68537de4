"""How a message goes on to another queue: as it came in, confirmed before the original is let go."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands as spec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.broker.frames import Message, composed
from bridge.broker.message import PERSISTENT
from bridge.broker.outcomes import PublishError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.broker.publisher import Publisher

log = logs.logger("moving")

_ROUTING_ONCE: Final = ("CC", "BCC")
"""Headers that would route the message to other queues as well."""
_RABBITMQS_OWN: Final = (
    "x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-"
)  # fmt: skip
"""How headers begin that RabbitMQ writes on the way. They tell of another queue, and it looks for cycles in them."""


def of_message(
    incoming: AbstractIncomingMessage,
    *,
    queue: str,
    headers: Mapping[str, Any],
    without: Collection[str] = (),
) -> Message:
    """The message as it came in, for a queue, reached through the default exchange.

    Args:
        incoming: the message; its body and properties are kept.
        queue: where it goes.
        headers: what is added, or replaced, in its headers.
        without: headers that are left out.
    """
    kept: dict[str, Any] = {
        # What is no text comes in as bytes, which pamqp writes only as a byte array.
        name: bytearray(value) if isinstance(value, bytes) else value
        for name, value in (incoming.headers or {}).items()
        if name not in _ROUTING_ONCE and name not in without and not name.startswith(_RABBITMQS_OWN)
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
            headers=kept | dict(headers),
        ),
        body=incoming.body,
    )


async def move(publisher: Publisher, message: Message, *, longest_wait: float, waiting: str) -> None:
    """Publish until RabbitMQ has confirmed it, however long that takes.

    Args:
        publisher: sends it.
        message: what is to arrive.
        longest_wait: between two attempts while RabbitMQ does not confirm, in seconds.
        waiting: the action that is logged when it has to be tried again.
    """

    def report(retrying: RetryCallState) -> None:
        log.warning(
            "a message cannot be moved, trying again",
            action=waiting,
            event_id=message.message_id,
            queue=message.routing_key,
            wait=round(retrying.upcoming_sleep, 2),
            error=str(retrying.outcome.exception() if retrying.outcome else None),
        )

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(PublishError),
        wait=wait_random_exponential(multiplier=0.1, max=longest_wait),
        before_sleep=report,
    ):
        with attempt:
            await publisher.publish(message)
