"""The messages that stand in a queue now, asked for one by one: `basic.get`, whose answers aiormq does not decode either."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

from pamqp import commands as spec
from pamqp import frame

from bridge.broker.deliveries import Assembly
from bridge.broker.internals import close_taken_channel, open_taken_channel, wire_of
from bridge.broker.session import BrokerUnavailableError, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection
    from aiormq.channel import Channel

    from bridge.broker.deliveries import Delivery
    from bridge.broker.wire import Wire

_METHOD_FRAME: Final = 1
_GET_EMPTY: Final = 60 << 16 | 72
_METHOD: Final = Struct(">I")
_HEAD: Final = 7


class Getting:
    """Takes messages out of one queue, in its order. At the end it gives back what was not acknowledged."""

    def __init__(self, queue: str, channel: Channel, wire: Wire, answers: _Answers) -> None:
        self._queue = queue
        self._channel = channel
        self._wire = wire
        self._answers = answers

    @classmethod
    @asynccontextmanager
    async def of(cls, connection: AbstractConnection, queue: str) -> AsyncIterator[Self]:
        """On a channel of its own.

        Args:
            connection: an open one, of `open_connection`.
            queue: its name.

        Raises:
            aiormq.exceptions.AMQPError: the connection is gone.
        """
        answers = _Answers()
        channel = await open_taken_channel(connection, answers.take)
        try:
            yield cls(queue, channel, wire_of(connection), answers)
        finally:
            await close_taken_channel(connection, channel)

    async def next(self) -> Delivery | None:
        """The next one; None where the queue has no more that are ready.

        Raises:
            BrokerUnavailableError: the channel is gone, or there is no such queue.
        """
        closing = self._channel.closing
        if not closing.done():
            self._wire.write(frame.marshal(spec.Basic.Get(queue=self._queue), self._channel.number))
        answer = asyncio.ensure_future(self._answers.queue.get())
        try:
            await asyncio.wait([answer, closing], return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()
        error = None if closing.cancelled() else closing.exception()
        raise BrokerUnavailableError(f"the channel was closed: {said(error) if error else 'no reason given'}")

    async def acknowledge(self, delivery: Delivery) -> None:
        """Take this one away for good.

        Raises:
            aiormq.exceptions.AMQPError: the connection is gone; it may still be there.
        """
        await self._channel.basic_ack(delivery.tag)


class _Answers:
    """Takes what RabbitMQ answers: a message, or that there is none."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._assembly = Assembly(self.queue.put_nowait)

    def take(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Take a frame, as a `wire.Taker`."""
        if kind == _METHOD_FRAME and _METHOD.unpack_from(data, at + _HEAD)[0] == _GET_EMPTY:
            self.queue.put_nowait(None)
            return True
        return self._assembly.take(data, kind, at, end)
