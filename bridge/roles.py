"""The one place where the rooms are wired into processes: each role from its settings to its orderly end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bridge.broker import topology
from bridge.broker.connection import Link
from bridge.broker.deadletters import DeadLetters
from bridge.broker.message import of_body
from bridge.broker.publisher import Publisher
from bridge.provider import client as provider
from bridge.receiver import readiness, server
from bridge.receiver.access import Access
from bridge.receiver.drain import Drain, Mover, empty_file
from bridge.receiver.handler import Handler
from bridge.receiver.spool import Spool
from bridge.receiver.spool_folder import others
from bridge.settings import InvalidSettingsError
from bridge.suppression.policy import Policy
from bridge.suppression.store import Store
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics
from bridge.worker.backfill import Backfill
from bridge.worker.consumer import Consumer
from bridge.worker.readiness import of_worker
from bridge.worker.relay import Relay
from bridge.worker.suppress import Suppressor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from aio_pika.abc import AbstractConnection

    from bridge.broker.publisher import Message
    from bridge.broker.topology import Topology
    from bridge.receiver.spool_file import Entry
    from bridge.settings import Settings

log = logs.logger("roles")


RECEIVER_HEALTH_PORT: Final = 8090
WORKER_HEALTH_PORT: Final = 8091
"""Where `health.port` is not set; they differ so that both roles fit on one machine."""

SETTLE_SECONDS: Final = 1.0
"""What the last confirms may take at the end; whatever has none by then is in the spool, or still in its queue."""


@dataclass(slots=True)
class Lifetime:
    """How a role is told to stop, and how it tells that it has started."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    """Where the receiver listens, once it has started."""


async def receiver(settings: Settings, lifetime: Lifetime) -> None:
    """Take webhooks until told to stop; then stop listening, finish what is in flight, close.

    Raises:
        InvalidSettingsError: there is no token.
        BrokerRefusedError: RabbitMQ has another topology than we need.
        PortTakenError: an address cannot be bound.
    """
    tokens = [token.get_secret_value() for token in settings.receiver.tokens]
    if not tokens:
        raise InvalidSettingsError(
            "receiver.tokens: at least one is needed, it is part of the webhook's URL (BRIDGE_RECEIVER__TOKENS)"
        )
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = _publisher(settings, link, metrics, window=settings.receiver.max_in_flight)
    async with Spool.open(settings.spool) as spool:
        readiness.measure(spool, metrics)
        exchange = topology.Names(settings.rabbitmq.prefix).events
        handler = Handler(
            settings.receiver,
            access=Access(tokens),
            publisher=publisher,
            spool=spool,
            exchange=exchange,
            metrics=metrics,
        )
        mover = Mover(publisher, compose=partial(_compose, exchange), live=lambda: handler.answered)
        drain = Drain(settings.spool, spool=spool, mover=mover, usable=lambda: publisher.usable)
        async with (
            health.serve(
                settings.health,
                metrics,
                partial(readiness.of_receiver, link, spool),
                default_port=RECEIVER_HEALTH_PORT,
            ),
            _publishing(settings, link, publisher) as publishing,
            running(drain.run(), name="drain") as draining,
            server.serve(settings.receiver, handler, metrics) as lifetime.port,
        ):
            lifetime.started.set()
            log.info("the receiver takes events", action="receiver.started", port=lifetime.port)
            await until(lifetime.stop, publishing, draining)
            log.info("stopping", action="receiver.stopping", in_flight=publisher.in_flight)
    log.info("stopped", action="receiver.stopped")


async def drain_spools(settings: Settings, moved: Callable[[int], None]) -> int:
    """Empty the spool files that no process has into RabbitMQ, by hand; returns how many events went.

    Args:
        settings: the folder, and where RabbitMQ is.
        moved: told how many have gone, as they go.

    Raises:
        BrokerRefusedError: RabbitMQ has another topology than we need.
        PublishError: RabbitMQ takes no more; what was not confirmed is still in the spool.
        SpoolError: a file cannot be read.
    """
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = _publisher(settings, link, metrics, window=settings.receiver.max_in_flight)
    exchange = topology.Names(settings.rabbitmq.prefix).events
    mover = Mover(publisher, compose=partial(_compose, exchange))
    total = 0
    async with _publishing(settings, link, publisher) as publishing:
        await until(link.up, publishing)
        for path in await asyncio.to_thread(others, settings.spool.directory, ()):
            total += await empty_file(path, mover, moved=moved) or 0
    return total


async def worker(settings: Settings, lifetime: Lifetime) -> None:
    """Keep the suppression list until told to stop; then take no more, finish or give back what is in hand.

    Raises:
        StoreError: the list cannot be opened.
        BrokerRefusedError: RabbitMQ has another topology than we need.
        PortTakenError: an address cannot be bound.
    """
    metrics = Metrics()
    names = topology.Names(settings.rabbitmq.prefix)
    publish_link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    consume_link = Link(settings.rabbitmq, use="consume", metrics=metrics)
    publisher = _publisher(settings, publish_link, metrics, window=settings.worker.prefetch)
    backfill = Backfill(publisher, names, suppressing=settings.suppression.events)
    async with (
        _suppressing(settings, publisher, metrics) as (consumer, relay),
        health.serve(
            settings.health,
            metrics,
            partial(of_worker, publish_link, consume_link),
            default_port=WORKER_HEALTH_PORT,
        ),
        # The queue is for the consumer to declare, which looks first whether it is missing.
        _publishing(settings, publish_link, publisher, without=names.suppression) as publishing,
    ):

        def opened() -> None:
            consume_link.opened()
            lifetime.started.set()
            log.info("the worker takes messages", action="worker.started")

        async def session(connection: AbstractConnection) -> None:
            await backfill.find_out(connection)
            await topology.ensure(connection, _topology(settings), settings.rabbitmq.declare)
            async with AsyncExitStack() as beside:
                if backfill.due:
                    await beside.enter_async_context(
                        running(backfill.run(connection), name="worker.backfill")
                    )
                await consumer.session(connection, opened=opened)

        async with (
            running(consume_link.run(session), name="worker.consume") as consuming,
            running(relay.run(), name="worker.relay") as relaying,
        ):
            await until(lifetime.stop, consuming, relaying, publishing)
            log.info("stopping", action="worker.stopping")
            await consumer.stop()
    log.info("stopped", action="worker.stopped")


@asynccontextmanager
async def _suppressing(
    settings: Settings, publisher: Publisher, metrics: Metrics
) -> AsyncIterator[tuple[Consumer, Relay]]:
    """The worker's parts, from queue to list and from list to exchange."""
    names = topology.Names(settings.rabbitmq.prefix)
    async with (
        Store.open(settings.suppression.database_url.get_secret_value()) as store,
        provider.connect(settings.provider, metrics) as client,
    ):
        if not client.has_token:
            log.warning(
                "provider.api_token is not set: an event whose address is not known yet goes to the dead letters",
                action="worker.no_token",
            )
        relay = Relay(store.outbox, publisher, exchange=names.changes, metrics=metrics)
        suppressor = Suppressor(
            settings=settings,
            policy=Policy(settings.suppression.events),
            store=store,
            client=client,
            metrics=metrics,
            recorded=relay.wake,
        )
        dead_letters = DeadLetters(
            publisher, queue=names.dead, longest_wait=settings.worker.pause_max, metrics=metrics
        )
        yield (
            Consumer(
                settings.worker,
                queue=names.suppression,
                work=suppressor,
                bury=dead_letters.bury,
                metrics=metrics,
            ),
            relay,
        )


@asynccontextmanager
async def _publishing(
    settings: Settings, link: Link, publisher: Publisher, *, without: str = ""
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher on a supervised connection; at the end, what is in flight gets its confirm first."""
    planned = topology.without_queue(_topology(settings), without)

    async def session(connection: AbstractConnection) -> None:
        await topology.ensure(connection, planned, settings.rabbitmq.declare)
        await publisher.session(connection)

    async with running(link.run(session), name="publish") as publishing:
        yield publishing
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await publisher.settle()


def _publisher(settings: Settings, link: Link, metrics: Metrics, *, window: int) -> Publisher:
    return Publisher(link, max_in_flight=window, patience=settings.receiver.confirm_wait, metrics=metrics)


def _topology(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq, suppressing=settings.suppression.events, subscribers=settings.subscribers
    )


def _compose(exchange: str, entry: Entry) -> Message:
    return of_body(entry.body, exchange=exchange, received_at=entry.received_at)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """A named task that ends with the context, at the latest."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for the word to stop, or for a task that should have gone on; raises what that one raised."""
    async with running(_wait(stop), name="stop") as stopping:
        ended, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
