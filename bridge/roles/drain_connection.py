"""The drain's own connection: what RabbitMQ refuses closes channels there, and live traffic does not feel it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.amqp.publish_errors import NotConnectedError
from bridge.amqp.publisher import Publisher
from bridge.roles.lifetime import running
from bridge.spool.drain_publisher import CHUNK, Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.amqp.frames import Message
    from bridge.settings.sections import Settings
    from bridge.spool.refused_events import RefusedEvents
    from bridge.spool.spool_file import Entry
    from bridge.telemetry.metrics import Metrics

_CONNECT_SECONDS: Final = 5.0
_REOPEN_MAX_SECONDS: Final = 0.05
"""Culprits are looked for here: one channel after the other is closed, and nobody else waits for it."""


@asynccontextmanager
async def drain_line(
    settings: Settings,
    metrics: Metrics,
    *,
    compose: Callable[[Entry], Message],
    live: Publisher,
    refused: RefusedEvents,
) -> AsyncIterator[tuple[Line, asyncio.Task[None]]]:
    """A connection that is opened when there is something to drain for the first time, and kept; and its task.

    Args:
        settings: where RabbitMQ is.
        metrics: where publishes are counted, with those of live traffic.
        compose: the message that an entry was to become.
        live: its session makes the topology stand; it hears when that is needed, and which nacks are over.
        refused: what is known to be refused.
    """
    link = Link(settings.rabbitmq, use="drain", metrics=metrics, on_demand=True)
    publisher = Publisher(
        link,
        max_in_flight=CHUNK,
        patience=settings.receiver.confirm_wait,
        metrics=metrics,
        reopen_max=_REOPEN_MAX_SECONDS,
        shown=False,
    )
    wanted = asyncio.Event()

    async def connected() -> None:
        await wanted.wait()
        await link.run(publisher.session)

    async def ready() -> None:
        wanted.set()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await publisher.ready()
        except TimeoutError:
            raise NotConnectedError(f"the drain has no connection to RabbitMQ: {link.reason}") from None

    line = Line(
        publisher,
        compose,
        refused=refused,
        ready=ready,
        damaged=live.look_after_topology,
        taken=live.taken_elsewhere,
    )
    async with running(connected(), name="drain connection") as connecting:
        yield line, connecting
