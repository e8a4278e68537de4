"""The clients that consume: of the events, and of the list's changes, each on queues that stand already."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import aio_pika
import orjson
from aiormq.exceptions import AMQPError

from bridge.amqp.connection import open_connection
from bridge.amqp.errors import (
    BrokerUnavailableError,
    call_errors_as_loss,
    session_errors_as_loss,
    wait_channel_closed,
    wait_closed,
)
from bridge.tasks import run_until_first_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
    from pamqp.commands import Queue as QueueCommands

    from tests.support.history.recorder import Recorder

PATIENCE_SECONDS: Final = 90.0
_PREFETCH: Final = 2000
_AGAIN_SECONDS: Final = 0.5


class Consumer:
    """Reads queues without end, over any loss of the connection, and writes all that comes into the history."""

    def __init__(
        self,
        urls: Sequence[str] | Callable[[], Awaitable[str]],
        recorder: Recorder,
        *,
        events: Mapping[str, Collection[str]] | None = None,
        changes: Collection[str] = (),
        announced: bool = True,
    ) -> None:
        """Say in the history what the queues have to get from now on.

        Args:
            urls: of the brokers; or what says where the broker is, and raises ConnectionError where it is nowhere.
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
        self._where = urls if callable(urls) else _in_turn(urls)
        self._queues = {**dict.fromkeys(events or (), self._event), **dict.fromkeys(changes, self._change)}
        self._grew = asyncio.Event()
        if not announced:
            return
        for queue, names in (events or {}).items():
            recorder.subscribed(queue, names)
        for queue in changes:
            recorder.subscribed(queue, to="changes")

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with suppress(BrokerUnavailableError, AMQPError, OSError):
                connection = await open_connection(await self._where(), name="history")
                try:
                    with session_errors_as_loss(connection):
                        await self._session(connection)
                finally:
                    with suppress(AMQPError, OSError):
                        await connection.close()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def has(self, event_ids: Collection[str], *, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until all of these have arrived, or until nothing has come for so many seconds."""
        missing = list(event_ids)

        def all_here() -> bool:
            while missing and missing[-1] in self.event_ids:
                missing.pop()  # so each is looked at once, however often this is asked
            return not missing

        await self._until(all_here, patience)

    async def has_changes(self, count: int, *, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until so many changes have arrived, or until nothing has come for so many seconds."""
        await self._until(lambda: len(self.change_ids) >= count, patience)

    async def _until(self, here: Callable[[], bool], patience: float) -> None:
        with suppress(TimeoutError):
            while not here():
                self._grew.clear()
                async with asyncio.timeout(patience):
                    await self._grew.wait()

    async def _session(self, connection: AbstractConnection) -> None:
        cancelled = asyncio.Event()
        with call_errors_as_loss(connection):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=_PREFETCH)
            aiormq_channel = await channel.get_underlay_channel()
            aiormq_channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
            for name, take in self._queues.items():
                queue = await channel.get_queue(name)
                await queue.consume(partial(take, name))
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


def _in_turn(urls: Sequence[str]) -> Callable[[], Awaitable[str]]:
    endless = itertools.cycle(urls)

    async def where() -> str:
        return next(endless)

    return where


async def declare_change_queue(url: str, queue: str, exchange: str) -> None:
    """A durable queue that gets every change, as a service would have it that must not miss any.

    Args:
        url: of the broker.
        queue: its name.
        exchange: of the changes, which stands.
    """
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        await declared.bind(exchange, "#")


async def waiting_messages(url: str, queues: Collection[str]) -> list[str]:
    """For `Recorder.left`: the queues of these that are not empty, with how many messages wait in each."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        counts = {name: (await _declared(channel, name)).message_count or 0 for name in queues}
    return [f"{name}: {count}" for name, count in counts.items() if count]


async def _declared(channel: AbstractChannel, queue: str) -> QueueCommands.DeclareOk:
    return (await channel.declare_queue(queue, passive=True)).declaration_result


async def _until_cancelled(event: asyncio.Event) -> None:
    await event.wait()
    raise ConnectionError("the history's consumer was cancelled")
