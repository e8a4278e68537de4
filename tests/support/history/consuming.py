"""The clients that consume: of the events, and of the list's changes, each on queues that stand already."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import orjson

from bridge.amqp.connection import Link
from bridge.amqp.errors import wait_channel_closed, wait_closed
from bridge.settings.sections import RabbitMQ
from bridge.tasks import run_until_first_ends
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from tests.support.history.recorder import Recorder

PATIENCE_SECONDS: Final = 90.0
_PREFETCH: Final = 2000
_AGAIN_SECONDS: Final = 0.5


class Consumer:
    """Reads queues without end, over any loss of the connection, and writes all that comes into the history."""

    def __init__(
        self,
        urls: list[str],
        recorder: Recorder,
        *,
        events: Mapping[str, Collection[str]] | None = None,
        changes: Collection[str] = (),
        announced: bool = True,
    ) -> None:
        """Say in the history what the queues have to get from now on.

        Args:
            urls: of the brokers.
            recorder: of the history.
            events: queue -> names of the events that it is bound to, `#` for all of them.
            changes: queues that get every change of the list.
            announced: whether to say so; not if a queue does not get everything yet.
        """
        self.event_ids: set[str] = set()
        """Of all that has come from any queue of events."""
        self.change_ids: set[int] = set()
        """Of all the changes that have come."""
        self._recorder = recorder
        self._queues = {**dict.fromkeys(events or (), self._event), **dict.fromkeys(changes, self._change)}
        self._link = Link(RabbitMQ(urls=urls, reconnect_max=_AGAIN_SECONDS), use="history", metrics=Metrics())
        self._grew = asyncio.Event()
        if not announced:
            return
        for queue, names in (events or {}).items():
            recorder.subscribed(queue, names)
        for queue in changes:
            recorder.subscribed(queue, to="changes")

    async def run(self) -> None:
        """Read until cancelled."""
        await self._link.run(self._session)

    async def has(self, event_ids: Collection[str], *, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until all of these have arrived, or for so many seconds."""
        await self._until(lambda: self.event_ids.issuperset(event_ids), patience)

    async def has_changes(self, ids: Collection[int], *, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until all of these changes have arrived, or for so many seconds."""
        await self._until(lambda: self.change_ids.issuperset(ids), patience)

    async def _until(self, here: Callable[[], bool], patience: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not here():
                    self._grew.clear()
                    await self._grew.wait()

    async def _session(self, connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=_PREFETCH)
        cancelled = asyncio.Event()
        aiormq_channel = await channel.get_underlay_channel()
        aiormq_channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        for name, take in self._queues.items():
            queue = await channel.get_queue(name)
            await queue.consume(partial(take, name))
        self._link.opened()
        await run_until_first_ends(
            cancelled=_until_cancelled(cancelled),
            channel=wait_channel_closed(aiormq_channel),
            connection=wait_closed(connection),
        )

    async def _event(self, queue: str, message: AbstractIncomingMessage) -> None:
        event_id = message.message_id or ""
        self._recorder.delivered(
            queue, event_id, message.type or "", message.body, redelivered=bool(message.redelivered)
        )
        self.event_ids.add(event_id)
        self._grew.set()
        await message.ack()

    async def _change(self, queue: str, message: AbstractIncomingMessage) -> None:
        document = orjson.loads(message.body)
        self._recorder.changed(queue, document, redelivered=bool(message.redelivered))
        self.change_ids.add(int(document["id"]))
        self._grew.set()
        await message.ack()


async def _until_cancelled(event: asyncio.Event) -> None:
    await event.wait()
    raise ConnectionError("the history's consumer was cancelled")
