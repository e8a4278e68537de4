"""Publishes delivered messages again as they are, and waits until RabbitMQ has confirmed all of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from bridge.amqp.errors import BrokerUnavailableError
from bridge.amqp.message_path import path_of
from bridge.amqp.message_types import Message
from bridge.amqp.publish_channel import PublishChannel, PublishCounters
from bridge.amqp.publish_errors import LostError
from bridge.broker.moved_properties import moved_properties
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.amqp.publish_errors import PublishError

_MAX_IN_FLIGHT: Final = 10_000
_CONFIRM_SECONDS: Final = 30.0
"""For the confirms of one batch. A quorum queue under load takes below 1 s."""
_PAUSE_SECONDS: Final = 0.5
"""Before a message is tried again that RabbitMQ has refused, as a full queue does."""


class Forwarder:
    """Publishes on a channel of its own."""

    def __init__(self, channel: PublishChannel) -> None:
        """Use `open` instead."""
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: AbstractConnection) -> AsyncIterator[Self]:
        """A forwarder on this connection of `open_connection`, which should not consume: an alarm blocks publishers."""
        channel = PublishChannel(
            PublishCounters(Metrics()), max_in_flight=_MAX_IN_FLIGHT, on_problem=lambda _: None
        )
        channel.opened(await path_of(connection).open_confirm_channel(connection, channel))
        try:
            yield cls(channel)
        finally:
            channel.end(LostError("the move has ended"))

    async def forward(self, deliveries: Sequence[Delivery], exchange: str) -> None:
        """Publish them in their order, with their routing keys, properties and headers.

        Args:
            deliveries: to publish.
            exchange: where to; a fanout exchange, so that neither the routing key nor `CC` leads elsewhere.

        Raises:
            BrokerUnavailableError: RabbitMQ does not confirm all of them. Some may have arrived.
        """
        messages = []
        for one in deliveries:
            message_id, properties = moved_properties(one.properties)
            messages.append(Message(exchange, one.routing_key, message_id, properties, one.body))
        error: PublishError | None = None
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                while messages:
                    refused = await self._publish(messages)
                    messages = [message for message, _ in refused]
                    if refused:
                        error = refused[0][1]
                        if isinstance(error, LostError):
                            break
                        await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            pass
        if messages:
            raise BrokerUnavailableError(
                f"exchange '{exchange}' does not take a message: {error or 'RabbitMQ does not confirm it'}"
            )

    async def _publish(self, messages: Sequence[Message]) -> list[tuple[Message, PublishError]]:
        """Publish, and wait for all outcomes. Returns what was not confirmed."""
        failed: list[tuple[Message, PublishError]] = []

        def note(message: Message, error: PublishError | None) -> None:
            if error is not None:
                failed.append((message, error))

        if self._channel.closed_by is not None:
            raise BrokerUnavailableError(str(self._channel.closed_by))
        for message in messages:
            self._channel.send(message, partial(note, message))
        await self._channel.wait_until_idle()
        return failed
