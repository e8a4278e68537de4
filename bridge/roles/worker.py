"""The worker role, from its settings to its orderly shutdown."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.broker import management, topology
from bridge.broker.binding_check import MissingBindings
from bridge.broker.topology_plan import planned_topology
from bridge.broker.topology_refusals import TopologyRefusals
from bridge.dead_letters.dead_letter_queue import DeadLetterQueue
from bridge.dead_letters.delay_queues import DelayQueues
from bridge.provider import client as provider
from bridge.roles.change_topology import ChangeTopology, nobody_publishes
from bridge.roles.identity import identified
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.registered_subscribers import RegisteredSubscribers
from bridge.roles.role_topology import RoleTopology, required_by_worker
from bridge.roles.worker_dependencies import WorkerDependencies
from bridge.roles.worker_list import open_list
from bridge.suppression.policy import Policy
from bridge.tasks import background_task, run_until_first_ends
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.tracing import open_tracing
from bridge.worker import failures
from bridge.worker.address_lookup import AddressLookup
from bridge.worker.announcements import (
    PREFETCH,
    AnnouncementCounts,
    Announcements,
    consume_announcements,
)
from bridge.worker.backfill import Backfill
from bridge.worker.change_bindings import ChangeBindings
from bridge.worker.consumer import Consumer
from bridge.worker.consumer_metrics import ConsumerMetrics
from bridge.worker.dead_letter_age import DeadLetterAge
from bridge.worker.event_traces import EventTraces
from bridge.worker.expirer import Expirer
from bridge.worker.freshness import FreshnessReporter, WaitingEvents
from bridge.worker.list_metrics import ListMetrics
from bridge.worker.progress_checks import WorkerParts, database_check, worker_checks
from bridge.worker.pruner import make_pruner
from bridge.worker.readiness import worker_readiness
from bridge.worker.relay import Relay
from bridge.worker.subscriber_watch import SubscriberWatch
from bridge.worker.suppressor import Suppressor
from bridge.worker.tracked_publisher import TrackedPublisher
from bridge.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher
    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Settings
    from bridge.suppression.store import Store
    from bridge.telemetry.spans import Spans

log = logs.logger("roles")

WORKER_HEALTH_PORT: Final = 8091
"""The default of `health.port`. Each role has another one, so that all can run on one machine."""


async def worker(settings: Settings, lifetime: Lifetime) -> None:
    """Keep the suppression list until the stop event is set; then consume no more, and handle or requeue what is left.

    It waits for a database that does not answer yet.

    Raises:
        StoreError: the list cannot be opened, and waiting does not help.
        TopologyRefusedError: RabbitMQ refuses a part of the topology that is required.
        PortTakenError: an address cannot be bound.
    """
    metrics = Metrics()
    names = topology.Names(settings.rabbitmq.prefix)
    publish_link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    consume_link = Link(settings.rabbitmq, use="consume", metrics=metrics)
    publisher = make_publisher(
        settings, publish_link, metrics, window=settings.worker.prefetch, returns_from={names.changes}
    )
    planned = planned_topology(settings)
    refusals = TopologyRefusals(planned, metrics)
    dependencies = WorkerDependencies.of(settings, metrics)
    watchdog = Watchdog(
        (database_check(dependencies.database),), after=settings.worker.stuck_after, metrics=metrics
    )
    async with AsyncExitStack() as open_parts:
        spans = await open_parts.enter_async_context(
            open_tracing(
                settings.tracing, role="worker", metrics=metrics, drain_timeout=settings.worker.drain_timeout
            )
        )
        ready = partial(
            worker_readiness,
            publish_link,
            consume_link,
            (dependencies.provider, dependencies.database),
            refusals,
        )
        await open_parts.enter_async_context(
            health.serve(
                settings.health,
                *health.process_health(metrics, identified(settings, publish_link, ready)),
                default_port=WORKER_HEALTH_PORT,
                liveness=watchdog.reason,
            )
        )
        watching = await open_parts.enter_async_context(
            background_task(watchdog.run(), name="worker.watchdog")
        )
        store = await open_parts.enter_async_context(
            open_list(settings, dependencies.database, lifetime.stop)
        )
        if store is None:
            log.info("stopped before the list could be opened", action="worker.stopped")
            return
        registered = RegisteredSubscribers(
            store.subscribers, prefix=settings.rabbitmq.prefix, of_settings=settings.subscribers
        )
        bindings = ChangeBindings(publisher, ChangeTopology(settings, registered))
        parts = await open_parts.enter_async_context(
            _build_parts(settings, store, dependencies, publisher, bindings, metrics, spans)
        )
        watchdog.add(worker_checks(parts, dependencies.database, publish_link, consume_link))
        api = await open_parts.enter_async_context(management.connect(settings.rabbitmq))
        lost = MissingBindings(api, [one for one in planned.bindings if one.queue == names.suppression])
        may_make_changes = partial(nobody_publishes, store.outbox)
        role_topology = RoleTopology(
            settings, planned, required_by_worker(settings), refusals, lost, registered, may_make_changes
        )
        subscriber_watch = SubscriberWatch(
            registered.with_those_of_settings, api, prefix=settings.rabbitmq.prefix, metrics=metrics
        )
        backfill = Backfill(
            publisher,
            names,
            suppressing=settings.suppression.used_events,
            window=settings.worker.prefetch,
            ensure_topology=role_topology.declare,
            metrics=metrics,
        )
        # The consumer's session declares what events need: whoever makes their exchange has to bind these two queues, too.
        rest = topology.without_queues(planned, names.suppression, names.archive)
        rest = topology.without_exchange(rest, names.events)
        for_publishing = RoleTopology(
            settings, rest, frozenset({names.changes}), may_make_changes=may_make_changes
        )
        publish = await open_parts.enter_async_context(publishing(publish_link, publisher, for_publishing))

        def opened() -> None:
            consume_link.opened()
            lifetime.started.set()
            log.info("worker started", action="worker.started")

        async def session(connection: AbstractConnection) -> None:
            await role_topology.declare(connection)
            await run_until_first_ends(
                consume=parts.consumer.session(connection, opened=opened),
                backfill=backfill.run(connection),
                freshness=parts.freshness.run(connection, backfill),
                announcements=consume_announcements(parts.announcement_consumer, connection),
                subscribers=subscriber_watch.run(connection),
            )

        async with (
            background_task(consume_link.run(session), name="worker.consume") as consuming,
            background_task(parts.relay.run(), name="worker.relay") as relaying,
            background_task(parts.list_metrics.run(), name="worker.list_metrics") as counting,
            background_task(parts.expirer.run(), name="worker.expirer") as expiring,
            background_task(parts.pruner.run(), name="worker.pruner") as pruning,
        ):
            await lifetime.wait_until_stopped(
                consuming, relaying, counting, expiring, pruning, watching, publish
            )
            log.info("worker stopping", action="worker.stopping")
            await asyncio.gather(parts.consumer.stop(), parts.announcement_consumer.stop())
            for task in (consuming, relaying, counting, expiring, pruning):
                task.cancel()  # all at once: then a database that does not answer is waited for only once
            await parts.freshness.report_end()
    log.info("worker stopped", action="worker.stopped")


@asynccontextmanager
async def _build_parts(
    settings: Settings,
    store: Store,
    dependencies: WorkerDependencies,
    publisher: Publisher,
    bindings: ChangeBindings,
    metrics: Metrics,
    spans: Spans | None,
) -> AsyncIterator[WorkerParts]:
    """Make the worker's parts: from the queue to the list, and from the list to the exchange of changes."""
    names = topology.Names(settings.rabbitmq.prefix)
    pause_max = settings.worker.pause_max
    # One request for each call: `AddressLookup` retries.
    once = settings.provider.model_copy(update={"attempts": 1})
    async with provider.connect(once, metrics) as client:
        if not client.has_token:
            log.warning(
                "provider.api_token is not set: an event whose address is not known yet waits in the delay queues, "
                "and goes to the dead letters after worker.give_up_after",
                action="worker.no_token",
            )
        relay = Relay(
            store.outbox,
            publisher,
            exchange=names.changes,
            bindings=bindings,
            database=dependencies.database,
            metrics=metrics,
            spans=spans,
        )
        traces = None if spans is None else _event_traces(settings, spans, queue=names.suppression)
        address_lookup = AddressLookup(settings.provider, client=client, provider=dependencies.provider)
        suppressor = Suppressor(
            settings=settings,
            policy=Policy.of(settings.suppression),
            store=store if traces is None else traces.recorder(store),
            database=dependencies.database,
            address_lookup=address_lookup if traces is None else traces.lookup(address_lookup),
            on_recorded=relay.changes_pending,
            metrics=metrics,
        )
        failures.create_metric_labels(metrics, delays=settings.worker.retry_delays)
        publishes = TrackedPublisher(publisher)
        waiting = WaitingEvents(DeadLetterAge(names.dead))
        router = failures.FailureRouter(
            DelayQueues(
                publishes,
                names=names,
                delays=settings.worker.retry_delays,
                longest_wait=pause_max,
                metrics=metrics,
            ),
            DeadLetterQueue(publishes, queue=names.dead, longest_wait=pause_max, metrics=metrics),
            publishes=publishes,
            give_up_after=settings.worker.give_up_after,
            unknown_grace=settings.provider.unknown_grace,
            on_moved=waiting.moved,
        )
        counts = ConsumerMetrics(metrics)
        consumer = Consumer(
            settings.worker,
            queue=names.suppression,
            handler=suppressor,
            route_failure=router.route if traces is None else traces.route_failure(router.route),
            counts=counts if traces is None else traces.counts(counts),
            on_requeued=waiting.requeued if traces is None else traces.on_requeued(waiting.requeued),
        )
        freshness = FreshnessReporter(
            store.freshness, waiting, consumer, names=names, database=dependencies.database, metrics=metrics
        )
        announcements = Announcements(
            store,
            publishes,
            quarantine=names.malformed,
            database=dependencies.database,
            longest_wait=pause_max,
            metrics=metrics,
        )
        announcement_consumer = Consumer(
            settings.worker.model_copy(update={"prefetch": PREFETCH}),
            queue=names.announced,
            handler=announcements,
            route_failure=announcements.route_failure,
            counts=AnnouncementCounts(),
        )
        list_metrics = ListMetrics(store, database=dependencies.database, metrics=metrics)
        expirer = Expirer(
            store, database=dependencies.database, on_ended=relay.changes_pending, metrics=metrics
        )
        pruner = make_pruner(settings, store, database=dependencies.database, metrics=metrics)
        yield WorkerParts(
            consumer,
            suppressor,
            address_lookup,
            router,
            relay,
            freshness,
            list_metrics,
            pruner,
            announcements,
            announcement_consumer,
            expirer,
        )


def _event_traces(settings: Settings, spans: Spans, *, queue: str) -> EventTraces:
    scheme = settings.suppression.database_url.get_secret_value().partition(":")[0]
    return EventTraces(spans, queue=queue, database=scheme.partition("+")[0])
