"""The consumer behind the bridge: reads the queue, over any loss of the connection, and can stand still for a while."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import orjson

from bridge.amqp.connection import Link, open_connection
from bridge.amqp.errors import wait_channel_closed, wait_closed
from bridge.broker.archive import read_archive
from bridge.settings.sections import RabbitMQ
from bridge.tasks import run_until_first_ends
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from tests.support.history.recorder import Recorder

PROBE: Final = orjson.dumps({"message": {"id": 0}, "event": {"name": "opened", "timestamp": 1_539_062_173}})
"""The event that only asks whether the bridge is there."""
_PATIENCE_SECONDS: Final = 30.0
_QUIET_SECONDS: Final = 2.0
"""When nothing has come for so long after the last event that was waited for, nothing more will."""
_LOOK_EVERY_SECONDS: Final = 0.1


class Arrivals:
    def __init__(self, url: str, queue: str, recorder: Recorder) -> None:
        """Say in the history what the queue has to get from now on."""
        self._arrived: set[str] = set()
        """Ids of events."""
        self._recorder = recorder
        self._url = url
        self._queue = queue
        self._last = 0.0
        self._reading: asyncio.Task[None] | None = None
        recorder.subscribed(queue)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """As long as the context lasts."""
        self.resume()
        try:
            yield
        finally:
            await self.pause()

    def resume(self) -> None:
        self._link = Link(RabbitMQ(urls=[self._url], reconnect_max=0.5), use="others", metrics=Metrics())
        self._reading = asyncio.create_task(self._link.run(self._session), name="arrivals")

    async def pause(self) -> None:
        """What comes from now on stays in the queue."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def missing(self, event_ids: Collection[str]) -> bool:
        """Whether any of these has not arrived."""
        return not self._arrived.issuperset(event_ids)

    async def have(self, event_ids: Collection[str]) -> None:
        """Wait until all of these have arrived and nothing more comes, or for a good while."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            quiet = time.monotonic() - self._last > _QUIET_SECONDS
            if quiet and not self.missing(event_ids):
                return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _session(self, connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1000)
        aiormq_channel = await channel.get_underlay_channel()
        cancelled = asyncio.Event()
        aiormq_channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        queue = await channel.get_queue(self._queue)
        await queue.consume(self._take)
        self._link.opened()
        await run_until_first_ends(
            cancelled=_until(cancelled),
            channel=wait_channel_closed(aiormq_channel),
            connection=wait_closed(connection),
        )

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if message.body != PROBE:
            event_id = message.message_id or ""
            self._recorder.delivered(
                self._queue,
                event_id,
                message.type or "",
                message.body,
                redelivered=bool(message.redelivered),
            )
            self._arrived.add(event_id)
            self._last = time.monotonic()
        await message.ack()


async def record_archive(url: str, stream: str, recorder: Recorder) -> None:
    """Write into the history what is in an archive, as deliveries of it."""
    connection = await open_connection(url, name="others")
    async with connection, aclosing(read_archive(connection, stream)) as batches:
        async for batch in batches:
            for event in batch:
                if event.body != PROBE:
                    recorder.delivered(stream, "", event.routing_key, event.body)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
    raise ConnectionError("the consumer was cancelled")
