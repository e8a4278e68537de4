"""The deliveries of a consumer, to be pulled one batch after the other."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from bridge.amqp.channels import on_consumer_cancelled
from bridge.amqp.errors import BrokerUnavailableError, call_errors_as_loss
from bridge.amqp.message_path import path_of
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel

    from bridge.amqp.message_types import Delivery

_CONSUMER_TAG: Final = "bridge"
"""The consumer tag on its channel."""


class Deliveries:
    """The deliveries of one consumer, to be pulled with `receive`."""

    def __init__(self, acknowledge_every: int | None) -> None:
        self._acknowledge_every = acknowledge_every
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._changed = asyncio.Event()
        self._received: list[Delivery] = []
        self._loss: str | None = None
        self._unacknowledged = 0
        self._last_tag = 0
        self._has_acknowledged = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: AbstractConnection,
        queue: str,
        *,
        prefetch: int,
        acknowledge_every: int | None = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Self]:
        """Consume on a channel of its own. Whatever is unacknowledged at the end is requeued.

        Args:
            connection: an open connection from `open_connection`.
            queue: an existing queue or stream.
            prefetch: how many messages may be unacknowledged.
            acknowledge_every: acknowledge this many together, at the next `receive`; for callers that cannot lose
                anything. None: only `acknowledge` does.
            arguments: of `basic.consume`.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
        """
        made = cls(acknowledge_every)
        made._connection = connection
        path = path_of(connection)
        channel, consumer = await path.open_delivery_channel(connection, made.add)
        made._channel = channel
        channel.closing.add_done_callback(made._on_channel_closed)
        on_consumer_cancelled(channel, lambda: made._on_loss("the consumer was cancelled"))
        try:
            with call_errors_as_loss(connection):
                await channel.basic_qos(prefetch_count=prefetch)
                await channel.basic_consume(
                    queue, consumer, consumer_tag=_CONSUMER_TAG, arguments=dict(arguments or {})
                )
            yield made
            if made._has_acknowledged:
                # With more than 32 acknowledgements of a quorum queue in flight RabbitMQ holds them back, and forgets
                # them when the channel is closed. It answers a cancel only after it has applied those before it.
                with call_errors_as_loss(connection):
                    await channel.basic_cancel(_CONSUMER_TAG)
        finally:
            await path.close_delivery_channel(connection, channel)

    async def receive(self, most: int | None = None) -> list[Delivery]:
        """All deliveries since the last call, `most` at the most; waits for the first.

        Raises:
            BrokerUnavailableError: the channel was closed, or the consumer was cancelled.
        """
        if self._acknowledge_every is not None and self._unacknowledged >= self._acknowledge_every:
            self._unacknowledged = 0
            await self._acknowledge(self._last_tag, multiple=True, wait=False)
        while not self._received:
            if self._loss is not None:
                raise BrokerUnavailableError(self._loss)
            self._changed.clear()
            await self._changed.wait()
        if most is None:
            taken, self._received = self._received, []
        else:
            taken, self._received = self._received[:most], self._received[most:]
        self._unacknowledged += len(taken)
        self._last_tag = taken[-1].tag
        return taken

    async def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge this delivery.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost; the message may still be in the queue.
        """
        self._has_acknowledged = True
        await self._acknowledge(delivery.tag)

    async def _acknowledge(self, tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        if self._connection is not None and self._channel is not None:
            with call_errors_as_loss(self._connection):
                await self._channel.basic_ack(tag, multiple=multiple, wait=wait)

    def add(self, delivery: Delivery) -> None:
        """Add a delivery that has arrived."""
        self._received.append(delivery)
        self._changed.set()

    def _on_channel_closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._on_loss(f"the channel was closed: {error_line(error) if error else 'no reason given'}")

    def _on_loss(self, reason: str) -> None:
        self._loss = reason
        self._changed.set()
