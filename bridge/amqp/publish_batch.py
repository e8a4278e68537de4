"""Many messages published together, and what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.publish_errors import PublishError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher


async def not_confirmed(
    publisher: Publisher, messages: Sequence[Message]
) -> list[tuple[Message, PublishError]]:
    """Send them all, wait for what becomes of each, and return those that RabbitMQ has not confirmed, with the reason."""
    refused: list[tuple[Message, PublishError]] = []
    sent: list[tuple[Message, asyncio.Future[None]]] = []
    for message in messages:
        try:
            sent.append((message, publisher.publish(message)))
        except PublishError as error:
            refused.append((message, error))
    for message, confirm in sent:
        try:
            await confirm
        except PublishError as error:
            refused.append((message, error))
    return refused
