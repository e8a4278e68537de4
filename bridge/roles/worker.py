"""The worker: from its settings to its orderly end."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.amqp.errors import together
from bridge.broker import management, topology
from bridge.broker.binding_check import LostBindings
from bridge.broker.topology_refusals import Refusals
from bridge.dead_letters.dead_letter_queue import DeadLetters
from bridge.dead_letters.delay_queues import Retries
from bridge.provider import client as provider
from bridge.roles.identity import identified
from bridge.roles.lifetime import running, until
from bridge.roles.publishing import publisher_of, publishing
from bridge.roles.role_topology import Standing, needed_to_keep_the_list, topology_of
from bridge.suppression.database import StoreUnavailableError
from bridge.suppression.policy import Policy
from bridge.suppression.store import Store
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics
from bridge.worker import failures
from bridge.worker.address_lookup import LookUps
from bridge.worker.backfill import Backfill
from bridge.worker.consumer import Consumer
from bridge.worker.dependencies import SLOW_SECONDS, Dependency
from bridge.worker.list_metrics import Survey
from bridge.worker.progress_checks import Parts, of_database, of_parts
from bridge.worker.readiness import of_worker
from bridge.worker.relay import Relay
from bridge.worker.suppressor import Suppressor
from bridge.worker.tracked_publisher import Publishes
from bridge.worker.watchdog import Watch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from typing import Self

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher
    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Provider, Settings

log = logs.logger("roles")

WORKER_HEALTH_PORT: Final = 8091
"""Where `health.port` is not set; the roles' differ so that all fit on one machine."""


@dataclass(frozen=True, slots=True)
class _Dependencies:
    """Whom a worker needs beside RabbitMQ, each behind its circuit breaker."""

    provider: Dependency
    database: Dependency

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Self:
        tries, longest = settings.worker.breaker_failures, settings.worker.pause_max
        return cls(
            Dependency(
                failures.PROVIDER,
                failures=tries,
                longest=longest,
                metrics=metrics,
                slow_after=_longest_call(settings.provider),
                of_one=failures.OF_ONE_MESSAGE,
                of_all=failures.OF_ALL_MESSAGES,
            ),
            # One refusal says it all: it comes after the database's own patience with a lock.
            Dependency(
                failures.DATABASE,
                failures=1,
                longest=longest,
                metrics=metrics,
                slow_after=min(SLOW_SECONDS, settings.worker.stuck_after),
            ),
        )


def _longest_call(settings: Provider) -> float:
    """Seconds that a look-up can take: at both addresses, with a pause for all between that the provider asks for."""
    return 2 * settings.timeout + settings.retry_after_max + SLOW_SECONDS


async def worker(settings: Settings, lifetime: Lifetime) -> None:
    """Keep the suppression list until told to stop; then take no more, finish or give back what is in hand.

    A database that does not answer yet is waited for.

    Raises:
        StoreError: the list cannot be opened, and waiting does not help.
        BrokerRefusedError: RabbitMQ has another topology than we need.
        PortTakenError: an address cannot be bound.
    """
    metrics = Metrics()
    names = topology.Names(settings.rabbitmq.prefix)
    publish_link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    consume_link = Link(settings.rabbitmq, use="consume", metrics=metrics)
    publisher = publisher_of(settings, publish_link, metrics, window=settings.worker.prefetch)
    planned = topology_of(settings)
    refusals = Refusals(planned, metrics)
    dependencies = _Dependencies.of(settings, metrics)
    watch = Watch((of_database(dependencies.database),), after=settings.worker.stuck_after, metrics=metrics)
    async with AsyncExitStack() as open_parts:
        ready = partial(
            of_worker, publish_link, consume_link, (dependencies.provider, dependencies.database), refusals
        )
        await open_parts.enter_async_context(
            health.serve(
                settings.health,
                *health.of_process(metrics, identified(settings, publish_link, ready)),
                default_port=WORKER_HEALTH_PORT,
                liveness=watch.reason,
            )
        )
        watching = await open_parts.enter_async_context(running(watch.run(), name="worker.watch"))
        store = await open_parts.enter_async_context(_list(settings, dependencies.database, lifetime.stop))
        if store is None:
            log.info("stopped before the list could be opened", action="worker.stopped")
            return
        parts = await open_parts.enter_async_context(
            _parts(settings, store, dependencies, publisher, metrics)
        )
        watch.add(of_parts(parts, dependencies.database, publish_link, consume_link))
        api = await open_parts.enter_async_context(management.connect(settings.rabbitmq))
        lost = LostBindings(api, [one for one in planned.bindings if one.queue == names.suppression])
        standing = Standing(settings, planned, needed_to_keep_the_list(settings), refusals, lost)
        backfill = Backfill(
            publisher,
            names,
            suppressing=settings.suppression.events,
            window=settings.worker.prefetch,
            stand=standing.make,
            metrics=metrics,
        )
        # The suppression queue is for the consumer to make.
        rest = topology.without_queues(planned, names.suppression, names.archive)
        publish = await open_parts.enter_async_context(
            publishing(publish_link, publisher, Standing(settings, rest, frozenset({names.changes})))
        )

        def opened() -> None:
            consume_link.opened()
            lifetime.started.set()
            log.info("the worker takes messages", action="worker.started")

        async def session(connection: AbstractConnection) -> None:
            await standing.make(connection)
            await together(
                consume=parts.consumer.session(connection, opened=opened), backfill=backfill.run(connection)
            )

        async with (
            running(consume_link.run(session), name="worker.consume") as consuming,
            running(parts.relay.run(), name="worker.relay") as relaying,
            running(parts.survey.run(), name="worker.survey") as surveying,
        ):
            await lifetime.until_stopped(consuming, relaying, surveying, watching, publish)
            log.info("stopping", action="worker.stopping")
            await parts.consumer.stop()
            for task in (consuming, relaying, surveying):
                task.cancel()  # all at once: a database that does not answer is waited for once, not by each in turn
    log.info("stopped", action="worker.stopped")


@asynccontextmanager
async def _list(settings: Settings, database: Dependency, stop: asyncio.Event) -> AsyncIterator[Store | None]:
    """The list, as soon as its database answers; None where the worker is told to stop before.

    Raises:
        StoreError: it cannot be opened, and waiting does not help.
    """
    url = settings.suppression.database_url.get_secret_value()
    async with AsyncExitStack() as opened:
        store: Store | None = None

        async def open_it() -> None:
            nonlocal store
            while store is None:
                with suppress(StoreUnavailableError):
                    store = await database.ask(
                        lambda: opened.enter_async_context(
                            Store.open(url, turn_seconds=settings.worker.take_over_after)
                        ),
                        failing=failures.AGAINST_THE_DATABASE,
                    )

        async with running(open_it(), name="worker.open") as opening:
            await until(stop, opening)
        yield store


@asynccontextmanager
async def _parts(
    settings: Settings, store: Store, dependencies: _Dependencies, publisher: Publisher, metrics: Metrics
) -> AsyncIterator[Parts]:
    """The worker's parts, from queue to list and from list to exchange."""
    names = topology.Names(settings.rabbitmq.prefix)
    pause_max = settings.worker.pause_max
    # Each of its calls is one request: how often a message is asked for is for `LookUps` to say.
    once = settings.provider.model_copy(update={"attempts": 1})
    async with provider.connect(once, metrics) as client:
        if not client.has_token:
            log.warning(
                "provider.api_token is not set: an event whose address is not known yet waits in the delay queues, "
                "and goes to the dead letters after worker.give_up_after",
                action="worker.no_token",
            )
        relay = Relay(
            store.outbox, publisher, exchange=names.changes, database=dependencies.database, metrics=metrics
        )
        look_ups = LookUps(settings.provider, client=client, provider=dependencies.provider)
        suppressor = Suppressor(
            settings=settings,
            policy=Policy(settings.suppression.events),
            store=store,
            database=dependencies.database,
            look_ups=look_ups,
            recorded=relay.wake,
            metrics=metrics,
        )
        failures.show_all(metrics, delays=settings.worker.retry_delays)
        publishes = Publishes(publisher)
        ways = failures.Ways(
            Retries(
                publishes,
                names=names,
                delays=settings.worker.retry_delays,
                longest_wait=pause_max,
                metrics=metrics,
            ),
            DeadLetters(publishes, queue=names.dead, longest_wait=pause_max, metrics=metrics),
            publishes=publishes,
            give_up_after=settings.worker.give_up_after,
            unknown_grace=settings.provider.unknown_grace,
        )
        consumer = Consumer(
            settings.worker, queue=names.suppression, work=suppressor, part=ways.part, metrics=metrics
        )
        survey = Survey(store, database=dependencies.database, metrics=metrics)
        yield Parts(consumer, suppressor, look_ups, ways, relay, survey)
