"""A publisher that counts what is in flight and completed, so that the watchdog can see whether it makes progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher


class TrackedPublisher:
    """Publishes through another publisher, and counts."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.in_flight = 0
        """How many wait for RabbitMQ's answer."""
        self.completed = 0
        """How many were confirmed, were refused, or have lost their connection."""

    def publish(self, message: Message) -> asyncio.Future[None]:
        """As `Publisher.publish`."""
        confirm = self._publisher.publish(message)
        self.in_flight += 1
        confirm.add_done_callback(self._end)
        return confirm

    def _end(self, _: asyncio.Future[None]) -> None:
        self.in_flight -= 1
        self.completed += 1
