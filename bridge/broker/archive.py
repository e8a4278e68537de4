"""Reading the archive, the stream that every event is in, from a point in time up to now."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

OFFSET_ARGUMENT: Final = "x-stream-offset"
RECEIVED_HEADER: Final = "received-at"

_PREFETCH: Final = 500
_IDLE_SECONDS: Final = 2.0
"""A stream has no end to read to: this long without a message means that all there was has come."""


async def read(
    connection: AbstractConnection, stream: str, *, offset: str = "first"
) -> AsyncIterator[AbstractIncomingMessage]:
    """Every message from the offset on that was received before this call, oldest first.

    Args:
        connection: an open connection; a channel of its own is used on it.
        stream: the archive's name.
        offset: RabbitMQ's `x-stream-offset`: `first`, or an interval such as `2h`.

    Raises:
        aiormq.exceptions.AMQPError: the connection is gone, or the stream is not there.
    """
    until = time.time_ns() // 1_000_000
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=_PREFETCH)
    queue = await channel.get_queue(stream)
    arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(arrivals.put, arguments={OFFSET_ARGUMENT: offset})
    unacknowledged = 0
    try:
        while (message := await _next(arrivals)) is not None:
            received_at = message.headers.get(RECEIVED_HEADER)
            if isinstance(received_at, int) and received_at > until:
                return
            yield message
            unacknowledged += 1
            if unacknowledged >= _PREFETCH // 2:
                await message.ack(multiple=True)
                unacknowledged = 0
    finally:
        await channel.close()


async def _next(arrivals: asyncio.Queue[AbstractIncomingMessage]) -> AbstractIncomingMessage | None:
    try:
        async with asyncio.timeout(_IDLE_SECONDS):
            return await arrivals.get()
    except TimeoutError:
        return None
