"""Deliveries, taken off the socket: whole messages as they came in, without a task or a queue between.

aiormq never sees them: at properties that pamqp cannot decode its reader ends, and the connection with it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bridge.amqp.aiormq_internals import close_taken_channel, open_taken_channel
from bridge.amqp.errors import BrokerUnavailableError, may_be_lost, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aio_pika.abc import AbstractConnection
    from aiormq.channel import Channel

_METHOD_FRAME: Final = 1
_HEADER_FRAME: Final = 2
_DELIVER: Final = 60 << 16 | 60
_HEAD: Final = 7
"""Bytes of a frame before its payload; one octet ends it."""
_METHOD: Final = Struct(">I")
_LONG: Final = Struct(">Q")
_CONSUMER: Final = _HEAD + _METHOD.size
"""Where the consumer's tag begins, a short text; delivery tag, one octet, exchange and routing key follow."""
_SIZE: Final = _HEAD + 4
"""Where a content header has the size of the body: behind class and weight."""
_PROPERTIES: Final = _SIZE + _LONG.size
"""Where it has the properties."""

_TAG: Final = "bridge"
"""The consumer's name on its channel."""


class Delivery(NamedTuple):
    """A message as it came in. Nothing of it is decoded but where it came from."""

    tag: int
    """By which it is acknowledged."""
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    """Encoded: the flags, then the values, as in `frames.Message`; `properties.read` reads them."""
    body: bytes


class Assembly:
    """Puts the deliveries of one channel together from its frames."""

    def __init__(self, whole: Callable[[Delivery], None]) -> None:
        """Args: who gets them. It must not raise: it is called by the socket."""
        self._whole = whole
        self._head: tuple[int, bool, str, str] | None = None
        self._properties = b""
        self._missing = 0
        self._parts: list[bytes] = []

    def take(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Take a frame, as a `wire.Taker`; what is no delivery is left to aiormq."""
        if kind == _METHOD_FRAME:
            if _METHOD.unpack_from(data, at + _HEAD)[0] != _DELIVER:
                return False
            self._head = _head(data, at + _CONSUMER)
        elif self._head is None:
            return False
        elif kind == _HEADER_FRAME:
            (self._missing,) = _LONG.unpack_from(data, at + _SIZE)
            self._properties = data[at + _PROPERTIES : end - 1]
            if not self._missing:
                self._complete(self._head, b"")
        else:
            part = data[at + _HEAD : end - 1]
            self._missing -= len(part)
            if self._missing:
                self._parts.append(part)
            else:
                self._complete(self._head, part)
        return True

    def _complete(self, head: tuple[int, bool, str, str], part: bytes) -> None:
        if self._parts:
            part = b"".join((*self._parts, part))
            self._parts.clear()
        self._head = None
        self._whole(Delivery(*head, self._properties, part))


class Deliveries:
    """What one consumer is sent; asked for, not pushed."""

    def __init__(self, acknowledge_every: int | None) -> None:
        self._acknowledge_every = acknowledge_every
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._news = asyncio.Event()
        self._whole: list[Delivery] = []
        self._loss: str | None = None
        self._unacknowledged = 0
        self._last_tag = 0
        self._let_go = False
        self._assembly = Assembly(self._arrived)

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        connection: AbstractConnection,
        queue: str,
        *,
        prefetch: int,
        acknowledge_every: int | None = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Self]:
        """Consume, on a channel of its own. What is not acknowledged at the end goes back to where it was.

        Args:
            connection: an open one, of `open_connection`.
            queue: or stream, which stands.
            prefetch: how many messages may be held.
            acknowledge_every: so many at once, when more is asked for: for whoever has nothing to lose. None
                acknowledges nothing but what is `let_go`.
            arguments: of the consumer.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
        """
        made = cls(acknowledge_every)
        made._connection = connection
        made._channel = channel = await open_taken_channel(connection, made.take)
        channel.closing.add_done_callback(made._closed)
        channel.on_consumer_cancel_callbacks.add(lambda _: made._lost("the consumer was cancelled"))
        try:
            with may_be_lost(connection):
                await channel.basic_qos(prefetch_count=prefetch)
                await channel.basic_consume(
                    queue, never_called, consumer_tag=_TAG, arguments=dict(arguments or {})
                )
            yield made
            if made._let_go:
                # RabbitMQ keeps back acknowledgements of a quorum queue when more than 32 are under way, and forgets
                # them when the channel is closed. The answer to a cancel comes when those before it have been applied.
                with may_be_lost(connection):
                    await channel.basic_cancel(_TAG)
        finally:
            await close_taken_channel(connection, channel)

    async def some(self, most: int | None = None) -> list[Delivery]:
        """All that have come since the last call, or so many of them; waits for the first.

        Raises:
            BrokerUnavailableError: the channel is gone, or the consumer was cancelled.
        """
        if self._acknowledge_every is not None and self._unacknowledged >= self._acknowledge_every:
            self._unacknowledged = 0
            await self._acknowledge(self._last_tag, multiple=True, wait=False)
        while not self._whole:
            if self._loss is not None:
                raise BrokerUnavailableError(self._loss)
            self._news.clear()
            await self._news.wait()
        if most is None:
            taken, self._whole = self._whole, []
        else:
            taken, self._whole = self._whole[:most], self._whole[most:]
        self._unacknowledged += len(taken)
        self._last_tag = taken[-1].tag
        return taken

    async def let_go(self, delivery: Delivery) -> None:
        """Acknowledge this one.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone; it may still be there.
        """
        self._let_go = True
        await self._acknowledge(delivery.tag)

    async def _acknowledge(self, tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        if self._connection is not None and self._channel is not None:
            with may_be_lost(self._connection):
                await self._channel.basic_ack(tag, multiple=multiple, wait=wait)

    def take(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Take a frame, as a `wire.Taker`."""
        return self._assembly.take(data, kind, at, end)

    def _arrived(self, delivery: Delivery) -> None:
        self._whole.append(delivery)
        self._news.set()

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._lost(f"the channel was closed: {said(error) if error else 'no reason given'}")

    def _lost(self, reason: str) -> None:
        self._loss = reason
        self._news.set()


async def never_called(_: Any) -> None:
    """What aiormq must be given to consume; no delivery gets as far as that."""


def _head(data: bytes, at: int) -> tuple[int, bool, str, str]:
    """Of `basic.deliver`: delivery tag, redelivered, exchange, routing key."""
    at += data[at] + 1
    (tag,) = _LONG.unpack_from(data, at)
    at += _LONG.size
    redelivered = bool(data[at] & 1)
    exchange_at = at + 1
    key_at = exchange_at + data[exchange_at] + 1
    exchange, key = data[exchange_at + 1 : key_at], data[key_at + 1 : key_at + 1 + data[key_at]]
    return tag, redelivered, _short_text(exchange), _short_text(key)


def _short_text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        # Not longer than it was: it may have to fit into a message once more.
        return content.decode(errors="replace").encode()[: len(content)].decode(errors="ignore")
