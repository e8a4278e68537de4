"""Reading the archive, the stream that every event is in, from its beginning up to now."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bridge.broker.session import BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    Arrivals = asyncio.Queue[AbstractIncomingMessage]

OFFSET_HEADER: Final = "x-stream-offset"
"""The argument that says where to begin, and the header that says where a message stands."""

_PREFETCH: Final = 500
_LAST_CHUNK_SECONDS: Final = 2.0
"""A stream that has anything sends its last chunk at once; this long without one means that it is empty."""
_SILENT_SECONDS: Final = 10.0
"""While there is more to come, this long without a message is no end, but a loss."""


async def read(connection: AbstractConnection, stream: str) -> AsyncIterator[AbstractIncomingMessage]:
    """Every message that is in the stream when this is called, oldest first.

    Args:
        connection: an open connection; channels of its own are used on it.
        stream: the archive's name.

    Raises:
        BrokerUnavailableError: the messages stop coming before the last one.
        aiormq.exceptions.AMQPError: the connection is gone, or the stream is not there.
    """
    last = await _last_offset(connection, stream)
    if last is None:
        return
    unacknowledged = 0
    async with _consuming(connection, stream, "first") as arrivals:
        while True:
            message = await _next(arrivals, _SILENT_SECONDS)
            if message is None:
                raise BrokerUnavailableError(f"the stream '{stream}' fell silent before its last message")
            yield message
            if _offset(message) >= last:
                return
            unacknowledged += 1
            if unacknowledged >= _PREFETCH // 2:
                await message.ack(multiple=True)
                unacknowledged = 0


async def _last_offset(connection: AbstractConnection, stream: str) -> int | None:
    """`last` is where the last chunk begins; what comes at once is that chunk, and what live traffic adds to it."""
    last = None
    clock = asyncio.get_running_loop().time
    until = clock() + _LAST_CHUNK_SECONDS
    async with _consuming(connection, stream, "last") as arrivals:
        while (message := await _next(arrivals, until - clock())) is not None:
            last = _offset(message)
    return last


@asynccontextmanager
async def _consuming(connection: AbstractConnection, stream: str, offset: str) -> AsyncIterator[Arrivals]:
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=_PREFETCH)
    queue = await channel.get_queue(stream)
    arrivals: Arrivals = asyncio.Queue()
    await queue.consume(arrivals.put, arguments={OFFSET_HEADER: offset})
    try:
        yield arrivals
    finally:
        await channel.close()


def _offset(message: AbstractIncomingMessage) -> int:
    offset = message.headers.get(OFFSET_HEADER)
    return offset if isinstance(offset, int) else 0


async def _next(arrivals: Arrivals, patience: float) -> AbstractIncomingMessage | None:
    try:
        async with asyncio.timeout(patience):
            return await arrivals.get()
    except TimeoutError:
        return None
