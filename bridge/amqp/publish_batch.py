"""Publishes many messages together, and waits for every confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bridge.amqp.publish_errors import PublishError, WindowFullError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from bridge.amqp.message_types import Message


class _Publisher(Protocol):
    def publish(self, message: Message) -> asyncio.Future[None]: ...


async def publish_all(
    publisher: _Publisher, messages: Iterable[Message], *, stop_at_full: bool = False
) -> list[PublishError | None]:
    """Publish all, and wait for every confirm.

    Args:
        publisher: sends them.
        messages: to publish, in this order.
        stop_at_full: end with the first message that does not fit into the window, unless it is the very first.

    Returns:
        For each message, in the same order, None if it was confirmed, else the error. With `stop_at_full` there may be
        fewer than messages: the rest was not sent.
    """
    published: list[asyncio.Future[None] | PublishError] = []
    for message in messages:
        try:
            published.append(publisher.publish(message))
        except PublishError as error:
            if stop_at_full and published and isinstance(error, WindowFullError):
                break
            published.append(error)
    return [one if isinstance(one, PublishError) else await _outcome(one) for one in published]


async def _outcome(confirm: asyncio.Future[None]) -> PublishError | None:
    try:
        await confirm
    except PublishError as error:
        return error
    return None
