"""The receiver inside the test's own process, on a real connection: the parts of the product's own role."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.amqp.connection import Link
from bridge.broker import declaring, topology, topology_plan
from bridge.receiver import server
from bridge.receiver.access import Access
from bridge.roles import publishing as roles
from bridge.roles.receiver import open_parts
from bridge.tasks import background_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.spans import Spans

    Declare = Callable[[AbstractConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Line:
    """A publisher on a supervised connection."""

    link: Link
    publisher: Publisher
    opened: asyncio.Event
    """Set each time that messages can be published."""

    async def up(self) -> None:
        """When it is open, for the first time or again after `opened.clear()`."""
        async with asyncio.timeout(90):
            await self.opened.wait()


@dataclass(frozen=True, slots=True)
class Receiving:
    port: int
    line: Line


@dataclass(frozen=True, slots=True)
class Declared:
    """Declares something else than the whole topology of a role."""

    by: Declare

    async def declare(self, connection: AbstractConnection, *, include_suppression: bool = True) -> bool:
        del include_suppression
        await self.by(connection)
        return True


@asynccontextmanager
async def publishing(settings: Settings, metrics: Metrics, declare: Declare) -> AsyncIterator[Line]:
    """A publisher on a connection of its own; before it is open, the first time and again, it declares."""
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = roles.make_publisher(settings, link, metrics, window=settings.receiver.max_in_flight)
    async with roles.publishing(link, publisher, Declared(declare), keep_trying=True):
        yield Line(link, publisher, link.up)


@asynccontextmanager
async def receiving(
    settings: Settings, metrics: Metrics, declare: Declare, spans: Spans | None = None
) -> AsyncIterator[Receiving]:
    """A receiver that listens, and drains; it need not have reached RabbitMQ yet."""
    access = Access([token.get_secret_value() for token in settings.receiver.tokens])
    async with (
        open_parts(settings, access, metrics, spans) as parts,
        roles.publishing(parts.link, parts.publisher, Declared(declare), keep_trying=True),
        background_task(parts.drain.run(), name="drain"),
        background_task(parts.nack_causes.run(), name="nack causes"),
        background_task(parts.confirm_causes.run(), name="confirm causes"),
        server.serve(settings.receiver, parts.handler) as port,
    ):
        yield Receiving(port, Line(parts.link, parts.publisher, parts.link.up))


def designed(settings: Settings) -> Declare:
    """Declares all that the design names."""

    async def declare(connection: AbstractConnection) -> None:
        planned = topology_plan.plan(
            settings.rabbitmq, suppressing=settings.suppression.used_events, subscribers=settings.subscribers
        )
        await declaring.apply_all(connection, planned, settings.rabbitmq.declare)

    return declare


def exchange_alone(settings: Settings) -> Declare:
    """Declares what is needed for a confirm, in a few milliseconds: the exchange, and a queue for everything."""

    async def declare(connection: AbstractConnection) -> None:
        names = topology.Names(settings.rabbitmq.prefix)
        async with connection.channel() as channel:
            await channel.declare_exchange(names.events, "topic", durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(names.events, "#")

    return declare
