"""Assembles deliveries directly from the frames at the socket, without a task or a queue in between.

aiormq never sees them: properties that pamqp cannot decode would end its reader, and the connection with it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bridge.amqp.aiormq_internals import close_routed_channel, open_routed_channel
from bridge.amqp.errors import BrokerUnavailableError, as_connection_loss
from bridge.amqp.frame_layout import (
    ARGUMENTS_AT,
    BODY_SIZE_AT,
    FRAME_HEADER,
    HEADER_FRAME,
    METHOD,
    METHOD_FRAME,
    PROPERTIES_AT,
    UINT64,
)
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aio_pika.abc import AbstractConnection
    from aiormq.channel import Channel

_DELIVER: Final = 60 << 16 | 60
_CONSUMER_TAG: Final = "bridge"
"""The consumer tag on its channel."""


class Delivery(NamedTuple):
    """A delivered message. Only exchange and routing key are decoded."""

    tag: int
    """Delivery tag, for the acknowledgement."""
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    """Encoded: the flags, then the values, as in `frames.Message`. `properties.decode_properties` decodes them."""
    body: bytes


class DeliveryAssembler:
    """Assembles the deliveries of one channel from its frames."""

    def __init__(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Args: called with each delivery. It must not raise: the socket calls it."""
        self._on_delivery = on_delivery
        self._deliver: tuple[int, bool, str, str] | None = None
        self._properties = b""
        self._missing = 0
        self._parts: list[bytes] = []

    def handle(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Handle a frame (a `wire.FrameHandler`). Frames that are not part of a delivery are left to aiormq."""
        if kind == METHOD_FRAME:
            if METHOD.unpack_from(data, at + FRAME_HEADER.size)[0] != _DELIVER:
                return False
            self._deliver = _deliver_arguments(data, at + ARGUMENTS_AT)
        elif self._deliver is None:
            return False
        elif kind == HEADER_FRAME:
            (self._missing,) = UINT64.unpack_from(data, at + BODY_SIZE_AT)
            self._properties = data[at + PROPERTIES_AT : end - 1]
            if not self._missing:
                self._complete(self._deliver, b"")
        else:
            part = data[at + FRAME_HEADER.size : end - 1]
            self._missing -= len(part)
            if self._missing:
                self._parts.append(part)
            else:
                self._complete(self._deliver, part)
        return True

    def _complete(self, head: tuple[int, bool, str, str], part: bytes) -> None:
        if self._parts:
            part = b"".join((*self._parts, part))
            self._parts.clear()
        self._deliver = None
        self._on_delivery(Delivery(*head, self._properties, part))


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
        self._assembler = DeliveryAssembler(self._on_delivery)

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
            acknowledge_every: acknowledge so many together, at the next `receive`; for callers that cannot lose
                anything. None: only `acknowledge` does.
            arguments: of `basic.consume`.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
        """
        made = cls(acknowledge_every)
        made._connection = connection
        made._channel = channel = await open_routed_channel(connection, made.handle)
        channel.closing.add_done_callback(made._on_channel_closed)
        channel.on_consumer_cancel_callbacks.add(lambda _: made._on_loss("the consumer was cancelled"))
        try:
            with as_connection_loss(connection):
                await channel.basic_qos(prefetch_count=prefetch)
                await channel.basic_consume(
                    queue,
                    unused_consumer_callback,
                    consumer_tag=_CONSUMER_TAG,
                    arguments=dict(arguments or {}),
                )
            yield made
            if made._has_acknowledged:
                # With more than 32 acknowledgements of a quorum queue in flight RabbitMQ holds them back, and forgets
                # them when the channel is closed. It answers a cancel only after it has applied those before it.
                with as_connection_loss(connection):
                    await channel.basic_cancel(_CONSUMER_TAG)
        finally:
            await close_routed_channel(connection, channel)

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
            with as_connection_loss(self._connection):
                await self._channel.basic_ack(tag, multiple=multiple, wait=wait)

    def handle(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Handle a frame (a `wire.FrameHandler`)."""
        return self._assembler.handle(data, kind, at, end)

    def _on_delivery(self, delivery: Delivery) -> None:
        self._received.append(delivery)
        self._changed.set()

    def _on_channel_closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._on_loss(f"the channel was closed: {error_line(error) if error else 'no reason given'}")

    def _on_loss(self, reason: str) -> None:
        self._loss = reason
        self._changed.set()


async def unused_consumer_callback(_: Any) -> None:
    """Aiormq requires a callback to consume. No delivery reaches it."""


def _deliver_arguments(data: bytes, at: int) -> tuple[int, bool, str, str]:
    """The arguments of `basic.deliver`: delivery tag, redelivered, exchange, routing key."""
    at += data[at] + 1
    (tag,) = UINT64.unpack_from(data, at)
    at += UINT64.size
    redelivered = bool(data[at] & 1)
    exchange_at = at + 1
    key_at = exchange_at + data[exchange_at] + 1
    exchange, key = data[exchange_at + 1 : key_at], data[key_at + 1 : key_at + 1 + data[key_at]]
    return tag, redelivered, _short_text(exchange), _short_text(key)


def _short_text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        # Not longer than before: it may have to fit into a short string again.
        return content.decode(errors="replace").encode()[: len(content)].decode(errors="ignore")
