"""The other side of the ledger: queues of its own, for all events and for all changes of the list."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

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
from bridge.broker.topology import Names
from bridge.tasks import run_until_first_ends
from tests.programs.stack.comparison import Arrived, Key
from tests.programs.stack.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from tests.programs.stack.stack import Stack

EVENTS_QUEUE: Final = "stack-test.events"
CHANGES_QUEUE: Final = "stack-test.changes"

_NAMES: Final = Names()
_PREFETCH: Final = 2000
_AGAIN_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 90.0
_OPERATOR: Final = "operator"


class Ledger:
    """Reads both queues without end, over any loss of the connection."""

    def __init__(self, stack: Stack) -> None:
        self.arrived: dict[str, Arrived] = {}
        """Event id -> what arrived under it."""
        self.added: set[Key] = set()
        """What was published as added to the list."""
        self._stack = stack
        self._grew = asyncio.Event()

    async def declare(self) -> None:
        """Durable and replicated, as a service would have them that must not miss anything."""
        connection = await open_connection(await self._stack.url(_OPERATOR), name="stack-test")
        async with connection:
            channel = await connection.channel()
            for name, exchange in ((EVENTS_QUEUE, _NAMES.events), (CHANGES_QUEUE, _NAMES.changes)):
                queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
                await queue.bind(exchange, "#")

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            # Docker publishes another port each time that RabbitMQ is started.
            with suppress(EngineError, BrokerUnavailableError, AMQPError, OSError):
                connection = await open_connection(await self._stack.url(_OPERATOR), name="stack-test")
                try:
                    with session_errors_as_loss(connection):
                        await self._session(connection)
                finally:
                    with suppress(AMQPError, OSError):
                        await connection.close()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def has(self, event_ids: Iterable[str]) -> None:
        """Wait until all of these have arrived, or for a good while."""
        missing = list(event_ids)

        def here() -> bool:
            missing[:] = [event_id for event_id in missing if event_id not in self.arrived]
            return not missing

        await self._until(here)

    async def told(self, entries: int) -> None:
        """Wait until so many additions to the list were published, or for a good while."""
        await self._until(lambda: len(self.added) >= entries)

    async def _until(self, enough: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not enough():
                    self._grew.clear()
                    await self._grew.wait()

    async def _session(self, connection: AbstractConnection) -> None:
        with call_errors_as_loss(connection):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=_PREFETCH)
            for name, take in ((EVENTS_QUEUE, self._take_event), (CHANGES_QUEUE, self._take_change)):
                queue = await channel.get_queue(name)
                await queue.consume(take)
            aiormq_channel = await channel.get_underlay_channel()
        await run_until_first_ends(
            channel=wait_channel_closed(aiormq_channel), connection=wait_closed(connection)
        )

    async def _take_event(self, message: AbstractIncomingMessage) -> None:
        event_id = message.message_id or ""
        known = self.arrived.get(event_id)
        if known is None:
            subject = str(message.headers.get("cloudEvents:subject"))
            self.arrived[event_id] = Arrived(message.type or "", subject)
        elif not message.redelivered:  # else it is the same message, whose acknowledgement was lost
            self.arrived[event_id] = replace(known, copies=known.copies + 1)
        self._grew.set()
        await message.ack()

    async def _take_change(self, message: AbstractIncomingMessage) -> None:
        change = orjson.loads(message.body)
        if change.get("action") == "added":
            self.added.add(Key(change["address"], change["reason"]))
        self._grew.set()
        await message.ack()
