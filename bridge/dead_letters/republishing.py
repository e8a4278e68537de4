"""How a message goes on to another queue: as it came in, confirmed before the original is let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.amqp.backoff import before_next
from bridge.amqp.frames import Message
from bridge.amqp.publish_errors import PublishError
from bridge.broker.forwarded_properties import ROUTING, rewritten
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping

    from bridge.amqp.deliveries import Delivery

log = logs.logger("moving")

_RABBITMQS_OWN: Final = (
    "x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-"
)  # fmt: skip
"""How headers begin that RabbitMQ writes on the way. They tell of another queue, and it looks for cycles in them."""


def of_message(
    incoming: Delivery,
    *,
    queue: str,
    headers: Mapping[str, Any],
    without: Collection[str] = (),
) -> Message:
    """The message as it came in, for a queue, reached through the default exchange.

    Args:
        incoming: the message; its body and properties are kept, byte for byte.
        queue: where it goes.
        headers: what is added, or replaced, in its headers.
        without: headers that are left out.
    """

    def stays_behind(name: str) -> bool:
        return name in ROUTING or name in without or name.startswith(_RABBITMQS_OWN)

    message_id, properties = rewritten(incoming.properties, headers=headers, without=stays_behind)
    return Message("", queue, message_id, properties, incoming.body)


class Publishing(Protocol):
    """Whatever can publish a message, and tell when RabbitMQ has confirmed it."""

    def publish(self, message: Message) -> Awaitable[None]:
        """Raises PublishError, now or when it is awaited."""


async def move(publisher: Publishing, message: Message, *, longest_wait: float, waiting: str) -> None:
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
        # In a single queue of our own there are no copies, and nobody else waits.
        wait=before_next(longest_wait)
        if message.exchange
        else wait_random_exponential(multiplier=0.1, max=longest_wait),
        before_sleep=report,
    ):
        with attempt:
            await publisher.publish(message)
