"""The worker role, from its settings to its orderly shutdown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.broker import management, topology
from bridge.broker.binding_check import MissingBindings
from bridge.broker.topology_plan import planned_topology
from bridge.broker.topology_refusals import TopologyRefusals
from bridge.roles.change_topology import ChangeTopology, nobody_publishes
from bridge.roles.identity import identified
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.registered_subscribers import RegisteredSubscribers
from bridge.roles.role_topology import RoleTopology, required_by_worker
from bridge.roles.worker_dependencies import WorkerDependencies
from bridge.roles.worker_list import open_list
from bridge.roles.worker_parts import WorkerWiring
from bridge.tasks import background_task, run_until_first_ends
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.tracing import open_tracing
from bridge.worker.announcements import consume_announcements
from bridge.worker.backfill import Backfill
from bridge.worker.change_bindings import ChangeBindings
from bridge.worker.progress_checks import database_check, worker_checks
from bridge.worker.readiness import worker_readiness
from bridge.worker.subscriber_watch import SubscriberWatch
from bridge.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher
    from bridge.broker.management import ManagementApi
    from bridge.broker.topology import Topology
    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Settings
    from bridge.worker.progress_checks import WorkerParts

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
    broker = _Broker.of(settings, metrics)
    dependencies = WorkerDependencies.of(settings, metrics)
    database = dependencies.database
    watchdog = Watchdog((database_check(database),), after=settings.worker.stuck_after, metrics=metrics)
    ready = partial(
        worker_readiness,
        broker.publish_link,
        broker.consume_link,
        (dependencies.provider, database),
        broker.refusals,
    )
    async with (
        open_tracing(
            settings.tracing, role="worker", metrics=metrics, drain_timeout=settings.worker.drain_timeout
        ) as spans,
        health.serve(
            settings.health,
            *health.process_health(metrics, identified(settings, broker.publish_link, ready)),
            default_port=WORKER_HEALTH_PORT,
            liveness=watchdog.reason,
        ),
        background_task(watchdog.run(), name="worker.watchdog") as watching,
        open_list(settings, database, lifetime.stop) as store,
    ):
        if store is None:
            log.info("stopped before the list could be opened", action="worker.stopped")
            return
        registered = RegisteredSubscribers(
            store.subscribers, prefix=settings.rabbitmq.prefix, of_settings=settings.subscribers
        )
        bindings = ChangeBindings(broker.publisher, ChangeTopology(settings, registered))
        wiring = WorkerWiring(settings, store, dependencies, broker.publisher, bindings, metrics, spans)
        async with wiring.parts() as parts, management.connect(settings.rabbitmq) as api:
            watchdog.add(worker_checks(parts, database, broker.publish_link, broker.consume_link))
            topologies = _Topologies(settings, broker, registered, partial(nobody_publishes, store.outbox))
            subscriber_watch = SubscriberWatch(
                registered.with_those_of_settings, api, prefix=settings.rabbitmq.prefix, metrics=metrics
            )
            consuming = _Consuming.of(
                settings, broker, parts, topologies.for_consuming(api), subscriber_watch, metrics
            )
            await _keep_list(lifetime, broker, topologies.for_publishing(), consuming, watching)
    log.info("worker stopped", action="worker.stopped")


async def _keep_list(
    lifetime: Lifetime,
    broker: _Broker,
    for_publishing: RoleTopology,
    consuming: _Consuming,
    watching: asyncio.Task[None],
) -> None:
    """Consume and publish until the worker has to stop, and end both in order."""
    parts, link = consuming.parts, broker.consume_link

    def opened() -> None:
        link.opened()
        lifetime.started.set()
        log.info("worker started", action="worker.started")

    async with (
        publishing(broker.publish_link, broker.publisher, for_publishing) as publish,
        background_task(link.run(partial(consuming.session, opened)), name="worker.consume") as consume,
        background_task(parts.relay.run(), name="worker.relay") as relaying,
        background_task(parts.list_metrics.run(), name="worker.list_metrics") as counting,
        background_task(parts.expirer.run(), name="worker.expirer") as expiring,
        background_task(parts.pruner.run(), name="worker.pruner") as pruning,
    ):
        own = (consume, relaying, counting, expiring, pruning)
        await lifetime.wait_until_stopped(*own, watching, publish)
        log.info("worker stopping", action="worker.stopping")
        await asyncio.gather(parts.consumer.stop(), parts.announcement_consumer.stop())
        for task in own:
            task.cancel()  # all at once: then a database that does not answer is waited for only once
        await parts.freshness.report_end()


@dataclass(frozen=True, slots=True)
class _Broker:
    """What a worker has of RabbitMQ."""

    publish_link: Link
    consume_link: Link
    publisher: Publisher
    planned: Topology
    refusals: TopologyRefusals

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Self:
        publish_link = Link(settings.rabbitmq, use="publish", metrics=metrics)
        publisher = make_publisher(
            settings,
            publish_link,
            metrics,
            window=settings.worker.prefetch,
            returns_from={topology.Names(settings.rabbitmq.prefix).changes},
        )
        planned = planned_topology(settings)
        consume_link = Link(settings.rabbitmq, use="consume", metrics=metrics)
        return cls(publish_link, consume_link, publisher, planned, TopologyRefusals(planned, metrics))


@dataclass(frozen=True, slots=True)
class _Topologies:
    """What is declared on each of the two connections."""

    settings: Settings
    broker: _Broker
    registered: RegisteredSubscribers
    may_make_changes: Callable[[], Awaitable[bool]]

    def for_consuming(self, api: ManagementApi) -> RoleTopology:
        names, planned = topology.Names(self.settings.rabbitmq.prefix), self.broker.planned
        return RoleTopology(
            self.settings,
            planned,
            required_by_worker(self.settings),
            self.broker.refusals,
            MissingBindings(api, [one for one in planned.bindings if one.queue == names.suppression]),
            self.registered,
            self.may_make_changes,
        )

    def for_publishing(self) -> RoleTopology:
        """The session that consumes declares what events need: whoever makes their exchange has to bind these two queues, too."""
        names = topology.Names(self.settings.rabbitmq.prefix)
        rest = topology.without_queues(self.broker.planned, names.suppression, names.archive)
        rest = topology.without_exchange(rest, names.events)
        return RoleTopology(
            self.settings, rest, frozenset({names.changes}), may_make_changes=self.may_make_changes
        )


@dataclass(frozen=True, slots=True)
class _Consuming:
    """What a worker does on the connection that it consumes with."""

    topology: RoleTopology
    parts: WorkerParts
    backfill: Backfill
    subscriber_watch: SubscriberWatch

    @classmethod
    def of(
        cls,
        settings: Settings,
        broker: _Broker,
        parts: WorkerParts,
        role_topology: RoleTopology,
        subscriber_watch: SubscriberWatch,
        metrics: Metrics,
    ) -> Self:
        backfill = Backfill(
            broker.publisher,
            topology.Names(settings.rabbitmq.prefix),
            suppressing=settings.suppression.used_events,
            window=settings.worker.prefetch,
            ensure_topology=role_topology.declare,
            metrics=metrics,
        )
        return cls(role_topology, parts, backfill, subscriber_watch)

    async def session(self, opened: Callable[[], None], connection: AbstractConnection) -> None:
        """Args: `opened`: called when events are consumed; the connection."""
        await self.topology.declare(connection)
        await run_until_first_ends(
            consume=self.parts.consumer.session(connection, opened=opened),
            backfill=self.backfill.run(connection),
            freshness=self.parts.freshness.run(connection, self.backfill),
            announcements=consume_announcements(self.parts.announcement_consumer, connection),
            subscribers=self.subscriber_watch.run(connection),
        )
