"""Publishes many messages together, and reports which were not confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.publish_errors import PublishError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher


async def publish_all(
    publisher: Publisher, messages: Sequence[Message]
) -> list[tuple[Message, PublishError]]:
    """Publish all, wait for every confirm, and return the messages that were not confirmed, each with its error."""
    failures: list[tuple[Message, PublishError]] = []
    published: list[tuple[Message, asyncio.Future[None]]] = []
    for message in messages:
        try:
            published.append((message, publisher.publish(message)))
        except PublishError as error:
            failures.append((message, error))
    for message, confirm in published:
        try:
            await confirm
        except PublishError as error:
            failures.append((message, error))
    return failures
