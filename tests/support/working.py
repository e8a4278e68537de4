"""The worker inside the test's own process or in one of its own: what goes in, and what comes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
from pamqp import commands as spec

from bridge import events
from bridge.broker import declaring
from bridge.broker.messages import event_message
from bridge.broker.queue_counts import queue_counts
from bridge.broker.topology_plan import planned_topology
from bridge.development.emission import event_body
from bridge.roles.lifetime import Lifetime
from bridge.roles.worker import worker
from bridge.suppression.store import Store
from bridge.tasks import background_task, wait_while_running
from tests.support import stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

    from bridge.amqp.message_types import Message
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Listener, Rabbit

    Overrides = Mapping[str, Mapping[str, Any]]
    Listed = dict[tuple[str, str], int]

AT = 1539062173
"""The provider's own example of a time."""


class Workplace:
    """Where a worker works: its topology stands, and every change of its list is heard."""

    def __init__(self, rabbit: Rabbit, settings: Settings, heard: Listener, channel: AbstractChannel) -> None:
        self.names = rabbit.names
        self._connection = rabbit.connection
        self._settings = settings
        self._heard = heard
        self._channel = channel
        self._changes: dict[str, dict[str, Any]] = {}

    @classmethod
    @asynccontextmanager
    async def prepared(cls, rabbit: Rabbit, settings: Settings) -> AsyncIterator[Workplace]:
        await declaring.declare(rabbit.connection, planned_topology(settings))
        async with rabbit.listening(rabbit.names.changes, "#") as heard, rabbit.channel() as channel:
            yield cls(rabbit, settings, heard, channel)

    async def declare(self) -> None:
        """Make what was deleted again."""
        await declaring.declare(self._connection, planned_topology(self._settings))

    async def send(self, *bodies: bytes) -> None:
        """Events as the receiver publishes them; returns when RabbitMQ has confirmed each."""
        channel = await self._channel.get_underlay_channel()
        for body in bodies:
            message = event_message(
                events.parse(body), body, exchange=self.names.events, received_at=AT * 1000
            )
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties_of(message),
            )

    async def put(self, body: bytes, **properties: Any) -> None:
        """Any bytes, straight into the worker's queue."""
        message = aio_pika.Message(body, **properties)
        await self._channel.default_exchange.publish(message, routing_key=self.names.suppression)

    async def changes(self, count: int) -> list[dict[str, Any]]:
        """The bodies of the first `count` changes that were published; one that came twice counts once."""
        while len(self._changes) < count:
            message = await self._heard.next()
            self._changes.setdefault(message.message_id or "", orjson.loads(message.body))
        return list(self._changes.values())

    async def listed(self) -> Listed:
        """What stands on the list: (address, reason) -> count. Fails where something is half-written."""
        url = self._settings.suppression.database_url.get_secret_value()
        async with Store.open(url, create=False) as store:
            entries = await store.entries(limit=10_000)
        await self._nothing_is_half_written()
        return {(entry.address, entry.reason.value): entry.count for entry in entries}

    async def published_ids(self, count: int) -> list[str]:
        """The ids of the next `count` messages that told of a change, as they came: those that came twice, too."""
        return [message.message_id or "" for message in await self._heard.take(count)]

    @property
    def unheard(self) -> int:
        """How many messages have told of a change and nobody has asked for them."""
        return self._heard.waiting

    async def left(self, at_least: int = 0) -> list[bytes]:
        """What is in the worker's queue without being acknowledged; taken out. For a worker that has ended.

        Args:
            at_least: that many are waited for. RabbitMQ gives back what a consumer had a moment after its end.
        """
        found: list[bytes] = []
        async with asyncio.timeout(90):
            while True:
                found += [message.body for message in await self._emptied(self.names.suppression)]
                if len(found) >= at_least:
                    return found
                await asyncio.sleep(0.02)

    async def dead(self) -> list[AbstractIncomingMessage]:
        """The dead letters, taken out."""
        return await self._emptied(self.names.dead)

    async def _emptied(self, name: str) -> list[AbstractIncomingMessage]:
        """Whoever has just looked at them, and ended, may still count as their consumer, who has them, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(90):
                while (await queue_counts(self._connection, name))[1]:  # noqa: ASYNC110 -- RabbitMQ does not tell
                    await asyncio.sleep(0.02)
        queue = await self._channel.get_queue(name)
        messages = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            messages.append(message)
        return messages

    async def _nothing_is_half_written(self) -> None:
        """Each event that was counted has its line in the log and is known as handled; and nothing else is."""
        url = self._settings.suppression.database_url.get_secret_value()

        async def number(query: str) -> int:
            ((found,),) = await stores.query(url, query)
            return int(found)

        counted = await number("SELECT coalesce(sum(count), 0) FROM suppressions")
        logged = await number("SELECT count(*) FROM changes WHERE action IN ('added', 'updated')")
        handled = await number("SELECT count(*) FROM handled_events")
        both = await number("SELECT count(*) FROM changes JOIN handled_events USING (event_id)")
        assert counted == logged == handled == both


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker in this process that takes messages; at the end it stops in order."""
    lifetime = Lifetime()
    async with background_task(worker(settings, lifetime), name="worker") as role:
        await wait_while_running(lifetime.started, role)
        yield
        lifetime.stop.set()
        async with asyncio.timeout(90):
            await role


@asynccontextmanager
async def keeping_busy(workplace: Workplace, message_ids: Iterable[int]) -> AsyncIterator[None]:
    """Meanwhile other events come and are handled, one after the other: the provider answers for them."""

    async def others() -> None:
        for count, number in enumerate(message_ids, start=1):
            await workplace.send(*bounces([number]))
            await workplace.changes(count)
        raise AssertionError("there were not enough of them")

    async with background_task(others(), name="others"):
        yield


def body_of(name: str, message_id: int, at: int = AT) -> bytes:
    """An event as the provider writes it."""
    return event_body(name, message_id, at, {})


def bounces(message_ids: Iterable[int]) -> list[bytes]:
    return [body_of("hard_bounced", number) for number in message_ids]


def bounced(message_ids: Iterable[int]) -> Listed:
    """What `listed` is when each of these messages has bounced once."""
    return {(f"recipient{number}@example.org", "hard_bounce"): 1 for number in message_ids}


def changed(overrides: Overrides, **sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The overrides with some values replaced."""
    merged = {name: dict(values) for name, values in overrides.items()}
    for name, values in sections.items():
        merged[name] = merged.get(name, {}) | dict(values)
    return merged


def database_file(settings: Settings) -> str:
    """The path of the list."""
    return stores.file_of(settings.suppression.database_url.get_secret_value())


def properties_of(message: Message) -> spec.Basic.Properties:
    """As a library sends them."""
    properties = spec.Basic.Properties()
    properties.unmarshal(int.from_bytes(message.properties[:2]), message.properties[2:])
    return properties
