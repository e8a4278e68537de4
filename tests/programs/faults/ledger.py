"""The other side of the ledger: a consumer on a queue of its own that writes down every event that arrived."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from bridge.amqp.connection import Link
from bridge.amqp.errors import wait_channel_closed, wait_closed
from bridge.settings.sections import RabbitMQ
from bridge.tasks import run_until_first_ends
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Collection

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

PATIENCE_SECONDS = 90.0


class Ledger:
    """Reads its queues without end, over any loss of the connection."""

    def __init__(self, urls: list[str], queues: Collection[str]) -> None:
        self.arrived: Counter[str] = Counter()
        """Event id -> how often it arrived."""
        self._queues = queues
        self._link = Link(RabbitMQ(urls=urls, reconnect_max=0.5), use="ledger", metrics=Metrics())
        self._grew = asyncio.Event()

    @property
    def duplicates(self) -> int:
        return self.arrived.total() - len(self.arrived)

    async def run(self) -> None:
        await self._link.run(self._session)

    async def has(self, event_ids: Collection[str]) -> set[str]:
        """Wait until all of these have arrived; returns those that have not after a good while."""
        missing = set(event_ids) - self.arrived.keys()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while missing:
                    self._grew.clear()
                    await self._grew.wait()
                    missing -= self.arrived.keys()
        except TimeoutError:
            pass
        return missing

    async def _session(self, connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=2000)
        cancelled = asyncio.Event()
        aiormq_channel = await channel.get_underlay_channel()
        aiormq_channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        for name in self._queues:
            queue = await channel.get_queue(name)
            await queue.consume(self._take)
        self._link.opened()
        await run_until_first_ends(
            cancelled=_until(cancelled),
            channel=wait_channel_closed(aiormq_channel),
            connection=wait_closed(connection),
        )

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self.arrived[message.message_id or ""] += 1
        self._grew.set()
        await message.ack()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
    raise ConnectionError("the ledger's consumer was cancelled")
