"""The receiver inside the test's own process, on a real connection: as `roles.receiver` wires it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.amqp.connection import Link
from bridge.amqp.publisher import Publisher
from bridge.broker import declaring, topology
from bridge.receiver import server
from bridge.receiver.access import Access
from bridge.receiver.handler import Handler
from bridge.roles.lifetime import background_task
from bridge.spool.refused_events import RefusedEvents
from bridge.spool.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics

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
        async with asyncio.timeout(20):
            await self.opened.wait()


@dataclass(frozen=True, slots=True)
class Receiving:
    port: int
    line: Line


@asynccontextmanager
async def publishing(settings: Settings, metrics: Metrics, declare: Declare) -> AsyncIterator[Line]:
    """A publisher on a connection of its own; before it is open, the first time and again, it declares."""
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = Publisher(
        link,
        max_in_flight=settings.receiver.max_in_flight,
        stalled_after=settings.receiver.confirm_wait,
        metrics=metrics,
    )

    async def session(connection: AbstractConnection) -> None:
        await declare(connection)
        await publisher.session(connection)

    async with background_task(link.run(session), name="publish"):
        yield Line(link, publisher, link.up)


@asynccontextmanager
async def receiving(settings: Settings, metrics: Metrics, declare: Declare) -> AsyncIterator[Receiving]:
    """A receiver that listens; it need not have reached RabbitMQ yet."""
    async with Spool.open(settings.spool) as spool, publishing(settings, metrics, declare) as line:
        handler = Handler(
            settings.receiver,
            access=Access([token.get_secret_value() for token in settings.receiver.tokens]),
            publisher=line.publisher,
            spool=spool,
            refused=RefusedEvents(),
            exchange=topology.Names(settings.rabbitmq.prefix).events,
            metrics=metrics,
        )
        async with server.serve(settings.receiver, handler) as port:
            yield Receiving(port, line)


def designed(settings: Settings) -> Declare:
    """Declares all that the design names."""

    async def declare(connection: AbstractConnection) -> None:
        planned = topology.plan(
            settings.rabbitmq, suppressing=settings.suppression.events, subscribers=settings.subscribers
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
