"""Publishes that are counted, so that who waits for RabbitMQ can be told from who is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher


class Publishes:
    """A way to a publisher that knows what became of all that went over it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.under_way = 0
        """How many wait for RabbitMQ's answer."""
        self.ended = 0
        """How many have it, be it a refusal, or have lost their connection."""

    def publish(self, message: Message) -> asyncio.Future[None]:
        """As the publisher does."""
        confirm = self._publisher.publish(message)
        self.under_way += 1
        confirm.add_done_callback(self._end)
        return confirm

    def _end(self, _: asyncio.Future[None]) -> None:
        self.under_way -= 1
        self.ended += 1
