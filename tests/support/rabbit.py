"""The tests' own view of RabbitMQ: queues that listen, what arrived in them, and what stands where."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.broker.queue_counts import queue_counts
from bridge.broker.topology import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage


RETRY_DELAYS = (0.2, 0.5)
"""Seconds: `worker.retry_delays` in the tests' settings."""
_DEFAULT_DELAYS = (30, 300, 3600)


class Listener:
    """A queue of the test's own, and what arrives in it."""

    def __init__(self, arrivals: asyncio.Queue[AbstractIncomingMessage]) -> None:
        self._arrivals = arrivals

    async def next(self, patience: float = 20) -> AbstractIncomingMessage:
        """The next message; fails when none comes in that many seconds."""
        async with asyncio.timeout(patience):
            return await self._arrivals.get()

    async def take(self, count: int) -> list[AbstractIncomingMessage]:
        return [await self.next() for _ in range(count)]

    @property
    def waiting(self) -> int:
        """How many have arrived that nobody has asked for."""
        return self._arrivals.qsize()


class Rabbit:
    def __init__(self, connection: AbstractConnection, prefix: str) -> None:
        self.connection = connection
        self.names = Names(prefix)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel for one use: RabbitMQ closes it when its answer is no."""
        channel = await self.connection.channel()
        try:
            yield channel
        finally:
            if not channel.is_closed:
                await channel.close()

    @asynccontextmanager
    async def listening(self, exchange: str, *keys: str) -> AsyncIterator[Listener]:
        """A temporary queue bound to these keys of an exchange."""
        async with self.channel() as channel:
            queue = await channel.declare_queue(exclusive=True)
            for key in keys:
                await queue.bind(exchange, key)
            arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await queue.consume(arrivals.put, no_ack=True)
            yield Listener(arrivals)

    @asynccontextmanager
    async def reading(self, queue: str) -> AsyncIterator[Listener]:
        """A consumer of a queue that stands; what it gets is acknowledged."""
        async with self.channel() as channel:
            arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await (await channel.get_queue(queue)).consume(arrivals.put, no_ack=True)
            yield Listener(arrivals)

    async def depth(self, queue: str) -> int:
        """Messages that are ready in a queue."""
        return (await queue_counts(self.connection, queue))[0]

    async def consumers(self, queue: str) -> int:
        return (await queue_counts(self.connection, queue))[1]

    async def stands(self, queue: str) -> bool:
        try:
            await self.depth(queue)
        except ChannelNotFoundEntity:
            return False
        return True

    async def delete_subscribers(self, *queues: str) -> None:
        """What stands for these subscribers, who are named without the prefix: their queues, and those of their dead letters."""
        async with self.channel() as channel:
            for queue in queues:
                await channel.queue_delete(f"{self.names.prefix}{queue}")
                await channel.queue_delete(f"{self.names.prefix}{queue}.dead")

    async def delete_everything(self) -> None:
        """All that `topology_plan.plan` names under this test's prefix."""
        names = self.names
        async with self.channel() as channel:
            delayed = [names.retry(delay) for delay in (*RETRY_DELAYS, *_DEFAULT_DELAYS)]
            for queue in (
                names.archive, names.unrouted, names.malformed, names.dead, names.backfill, names.suppression,
                names.announced, *delayed
            ):  # fmt: skip
                await channel.queue_delete(queue)
            for exchange in (names.events, names.unrouted, names.changes, names.messages):
                await channel.exchange_delete(exchange)
