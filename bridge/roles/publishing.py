"""What every role that publishes is wired with: a publisher on a supervised connection, and the topology under it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from bridge.broker import declaring, topology
from bridge.broker.publisher import Publisher
from bridge.roles.lifetime import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.connection import Link
    from bridge.broker.topology import Topology
    from bridge.settings import Settings
    from bridge.telemetry.metrics import Metrics

SETTLE_SECONDS: Final = 1.0
"""What the last confirms may take at the end; whatever has none by then is in the spool, or still in its queue."""


@asynccontextmanager
async def publishing(
    settings: Settings, link: Link, publisher: Publisher, *, without: Iterable[str] = ()
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher on a supervised connection; at the end, what is in flight gets its confirm first.

    The first session makes all of the topology stand. Where a later one finds the suppression queue gone, somebody has
    deleted it: making it again is left to the worker, which fills it from the archive only if it finds it missing.
    """
    everything = topology.without_queues(topology_of(settings), *without)
    suppression = topology.Names(settings.rabbitmq.prefix).suppression

    async def session(connection: AbstractConnection) -> None:
        planned = everything
        if link.was_up and await declaring.depth(connection, suppression) is None:
            planned = topology.without_queues(everything, suppression)
        await declaring.ensure(connection, planned, settings.rabbitmq.declare)
        await publisher.session(connection)

    async with running(link.run(session), name="publish") as publish:
        yield publish
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await publisher.settle()


def publisher_of(settings: Settings, link: Link, metrics: Metrics, *, window: int) -> Publisher:
    return Publisher(link, max_in_flight=window, patience=settings.receiver.confirm_wait, metrics=metrics)


def topology_of(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq,
        suppressing=settings.suppression.events,
        subscribers=settings.subscribers,
        retry_delays=settings.worker.retry_delays,
    )
