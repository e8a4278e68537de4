"""The worker: from its settings to its orderly end."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.broker import topology
from bridge.broker.connection import Link
from bridge.broker.deadletters import DeadLetters
from bridge.provider import client as provider
from bridge.roles.lifetime import running, until
from bridge.roles.publishing import publisher_of, publishing, topology_of
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
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.broker.publisher import Publisher
    from bridge.roles.lifetime import Lifetime
    from bridge.settings import Settings

log = logs.logger("roles")

WORKER_HEALTH_PORT: Final = 8091
"""Where `health.port` is not set; the roles' differ so that all fit on one machine."""


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
    publisher = publisher_of(settings, publish_link, metrics, window=settings.worker.prefetch)
    backfill = Backfill(publisher, names, suppressing=settings.suppression.events)
    async with (
        _suppressing(settings, publisher, metrics) as (consumer, relay),
        health.serve(
            settings.health,
            *health.of_process(metrics, partial(of_worker, publish_link, consume_link)),
            default_port=WORKER_HEALTH_PORT,
        ),
        # The queue is for the consumer to declare, which looks first whether it is missing.
        publishing(settings, publish_link, publisher, without=names.suppression) as publish,
    ):

        def opened() -> None:
            consume_link.opened()
            lifetime.started.set()
            log.info("the worker takes messages", action="worker.started")

        async def session(connection: AbstractConnection) -> None:
            await backfill.find_out(connection)
            await topology.ensure(connection, topology_of(settings), settings.rabbitmq.declare)
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
            await until(lifetime.stop, consuming, relaying, publish)
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
