"""A consumer whose deliveries are taken off the socket: whole messages, without a task or a queue between."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bridge.broker.internals import close_taken_channel, open_taken_channel
from bridge.broker.session import BrokerUnavailableError, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

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


class Delivered(NamedTuple):
    """A message as it came in; nothing of it is decoded but the routing key."""

    routing_key: str
    properties: bytes
    """Encoded: the flags, then the values, as in `frames.Message`."""
    body: bytes


class Deliveries:
    """What one consumer is sent. It is acknowledged when more is asked for: for whoever has nothing to lose."""

    def __init__(self, acknowledge_every: int) -> None:
        self._acknowledge_every = acknowledge_every
        self._channel: Channel | None = None
        self._news = asyncio.Event()
        self._whole: list[Delivered] = []
        self._loss: str | None = None
        self._unacknowledged = 0
        self._tag = 0
        self._whole_tag = 0
        self._routing_key = ""
        self._properties = b""
        self._missing = 0
        self._parts: list[bytes] = []

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        connection: AbstractConnection,
        queue: str,
        *,
        prefetch: int,
        acknowledge_every: int = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Self]:
        """Consume, on a channel of its own; one consumer at a time on a connection of `open_connection`.

        Args:
            connection: an open one.
            queue: or stream, which stands.
            prefetch: how many messages may be held.
            acknowledge_every: so many, in one frame; fewer stay unacknowledged until more have come.
            arguments: of the consumer.

        Raises:
            aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
        """
        made = cls(acknowledge_every)
        made._channel = channel = await open_taken_channel(connection, made.take)
        channel.closing.add_done_callback(made._closed)
        channel.on_consumer_cancel_callbacks.add(lambda _: made._lost("the consumer was cancelled"))
        try:
            await channel.basic_qos(prefetch_count=prefetch)
            await channel.basic_consume(queue, _never_called, arguments=dict(arguments or {}))
            yield made
        finally:
            await close_taken_channel(connection, channel)

    async def some(self) -> list[Delivered]:
        """All that have come since the last call; waits for the first.

        Raises:
            BrokerUnavailableError: the channel is gone, or the consumer was cancelled.
        """
        if self._channel is not None and self._unacknowledged >= self._acknowledge_every:
            self._unacknowledged = 0
            await self._channel.basic_ack(self._whole_tag, multiple=True, wait=False)
        while not self._whole:
            if self._loss is not None:
                raise BrokerUnavailableError(self._loss)
            self._news.clear()
            await self._news.wait()
        taken, self._whole = self._whole, []
        self._unacknowledged += len(taken)
        return taken

    def take(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Take a frame, as a `wire.Taker`; what is no delivery is left to aiormq."""
        if kind == _METHOD_FRAME:
            if _METHOD.unpack_from(data, at + _HEAD)[0] != _DELIVER:
                return False
            here = at + _CONSUMER
            here += data[here] + 1
            (self._tag,) = _LONG.unpack_from(data, here)
            here += _LONG.size + 1
            here += data[here] + 1
            self._routing_key = data[here + 1 : here + 1 + data[here]].decode(errors="replace")
        elif kind == _HEADER_FRAME:
            (self._missing,) = _LONG.unpack_from(data, at + _SIZE)
            self._properties = data[at + _PROPERTIES : end - 1]
            if not self._missing:
                self._complete(b"")
        else:
            part = data[at + _HEAD : end - 1]
            self._missing -= len(part)
            if self._missing:
                self._parts.append(part)
            else:
                self._complete(part)
        return True

    def _complete(self, part: bytes) -> None:
        if self._parts:
            part = b"".join((*self._parts, part))
            self._parts.clear()
        self._whole.append(Delivered(self._routing_key, self._properties, part))
        self._whole_tag = self._tag
        self._news.set()

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._lost(f"the channel was closed: {said(error) if error else 'no reason given'}")

    def _lost(self, reason: str) -> None:
        self._loss = reason
        self._news.set()


async def _never_called(_: Any) -> None:
    """What aiormq must be given; no delivery gets as far as that."""
