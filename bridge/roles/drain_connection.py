"""The drain's own connection: a refusal of RabbitMQ closes channels there, and does not affect live traffic."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.amqp.publish_errors import NotConnectedError
from bridge.amqp.publisher import Publisher
from bridge.spool.drain_publisher import CHUNK, DrainPublisher
from bridge.tasks import background_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.amqp.message_types import Message
    from bridge.settings.sections import Settings
    from bridge.spool.entries import SpoolEntry
    from bridge.spool.known_refusals import KnownRefusals
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.spans import Spans

_CONNECT_SECONDS: Final = 5.0
_MAX_REOPEN_SECONDS: Final = 0.05
"""The drain isolates refused messages, for which channels are closed one after the other. Nothing else waits for it."""


@asynccontextmanager
async def open_drain_connection(
    settings: Settings,
    metrics: Metrics,
    *,
    compose: Callable[[SpoolEntry], Message],
    live: Publisher,
    known_refusals: KnownRefusals,
    spans: Spans | None = None,
) -> AsyncIterator[tuple[DrainPublisher, asyncio.Task[None]]]:
    """The drain's publisher, on a connection that is opened when there is something to drain; and the connection's task.

    Args:
        settings: where RabbitMQ is.
        metrics: count its publishes together with those of live traffic.
        compose: makes the message of an entry.
        live: the publisher of live traffic. It is informed when the topology must be checked, and which nacks are over.
        known_refusals: what RabbitMQ is known to refuse.
        spans: makes those of the traces that are recorded; None: none are.
    """
    link = Link(settings.rabbitmq, use="drain", metrics=metrics, on_demand=True)
    publisher = Publisher(
        link,
        max_in_flight=CHUNK,
        stalled_after=settings.receiver.confirm_wait,
        metrics=metrics,
        reopen_max=_MAX_REOPEN_SECONDS,
        show_window=False,
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

    drain_publisher = DrainPublisher(
        publisher,
        compose,
        known_refusals=known_refusals,
        ready=ready,
        on_topology_damaged=live.request_topology_repair,
        on_recovered=live.note_confirmed_elsewhere,
        spans=spans,
    )
    async with background_task(connected(), name="drain connection") as connection_task:
        yield drain_publisher, connection_task
