"""Wires a worker's parts: from the queue to the list, and from the list to the exchange of changes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bridge.broker import topology
from bridge.dead_letters.dead_letter_queue import DeadLetterQueue
from bridge.dead_letters.delay_queues import DelayQueues
from bridge.provider import client as provider
from bridge.suppression.policy import Policy
from bridge.telemetry import logs
from bridge.worker import failures
from bridge.worker.address_lookup import AddressLookup
from bridge.worker.announcements import PREFETCH, AnnouncementCounts, Announcements
from bridge.worker.consumer import Consumer
from bridge.worker.consumer_metrics import ConsumerMetrics
from bridge.worker.dead_letter_age import DeadLetterAge
from bridge.worker.event_traces import EventTraces
from bridge.worker.expirer import Expirer
from bridge.worker.freshness import FreshnessReporter, WaitingEvents
from bridge.worker.list_metrics import ListMetrics
from bridge.worker.progress_checks import WorkerParts
from bridge.worker.pruner import make_pruner
from bridge.worker.relay import Relay
from bridge.worker.suppressor import Suppressor
from bridge.worker.tracked_publisher import TrackedPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.amqp.publisher import Publisher
    from bridge.broker.topology import Names
    from bridge.roles.worker_dependencies import WorkerDependencies
    from bridge.settings.sections import Settings
    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.spans import Spans
    from bridge.worker.change_bindings import ChangeBindings

log = logs.logger("roles")


@dataclass(frozen=True)
class WorkerWiring:
    """Makes a worker's parts, which know each other. Nothing is consumed yet, and nothing published."""

    settings: Settings
    store: Store
    dependencies: WorkerDependencies
    publisher: Publisher
    bindings: ChangeBindings
    """Of those who follow the changes."""
    metrics: Metrics
    spans: Spans | None
    """Makes those of the traces that are recorded; None: none are."""

    @asynccontextmanager
    async def parts(self) -> AsyncIterator[WorkerParts]:
        """The parts, with a client of the provider's API that is closed at the end."""
        # One request for each call: `AddressLookup` retries.
        once = self.settings.provider.model_copy(update={"attempts": 1})
        async with provider.connect(once, self.metrics) as client:
            if not client.has_token:
                log.warning(
                    "provider.api_token is not set: an event whose address is not known yet waits in the delay queues, "
                    "and goes to the dead letters after worker.give_up_after",
                    action="worker.no_token",
                )
            yield self._around(
                AddressLookup(self.settings.provider, client=client, provider=self.dependencies.provider)
            )

    def _around(self, address_lookup: AddressLookup) -> WorkerParts:
        database, metrics = self.dependencies.database, self.metrics
        relay = Relay(
            self.store.outbox,
            self.publisher,
            exchange=self._names.changes,
            bindings=self.bindings,
            database=database,
            metrics=metrics,
            spans=self.spans,
        )
        suppressor = self._suppressor(address_lookup, relay)
        publishes = TrackedPublisher(self.publisher)
        waiting = WaitingEvents(DeadLetterAge(self._names.dead))
        router = self._router(publishes, waiting)
        consumer = self._consumer(suppressor, router, waiting)
        announcements = Announcements(
            self.store,
            publishes,
            quarantine=self._names.malformed,
            database=database,
            longest_wait=self.settings.worker.pause_max,
            metrics=metrics,
        )
        return WorkerParts(
            consumer,
            suppressor,
            address_lookup,
            router,
            relay,
            FreshnessReporter(
                self.store.freshness,
                waiting,
                consumer,
                names=self._names,
                database=database,
                metrics=metrics,
            ),
            ListMetrics(self.store, database=database, metrics=metrics),
            make_pruner(self.settings, self.store, database=database, metrics=metrics),
            announcements,
            self._announcement_consumer(announcements),
            Expirer(self.store, database=database, on_ended=relay.changes_pending, metrics=metrics),
        )

    def _suppressor(self, address_lookup: AddressLookup, relay: Relay) -> Suppressor:
        traces = self._traces
        return Suppressor(
            settings=self.settings,
            policy=Policy.of(self.settings.suppression),
            store=self.store if traces is None else traces.recorder(self.store),
            database=self.dependencies.database,
            address_lookup=address_lookup if traces is None else traces.lookup(address_lookup),
            on_recorded=relay.changes_pending,
            metrics=self.metrics,
        )

    def _router(self, publishes: TrackedPublisher, waiting: WaitingEvents) -> failures.FailureRouter:
        delays, longest_wait = self.settings.worker.retry_delays, self.settings.worker.pause_max
        failures.create_metric_labels(self.metrics, delays=delays)
        return failures.FailureRouter(
            DelayQueues(
                publishes, names=self._names, delays=delays, longest_wait=longest_wait, metrics=self.metrics
            ),
            DeadLetterQueue(
                publishes, queue=self._names.dead, longest_wait=longest_wait, metrics=self.metrics
            ),
            publishes=publishes,
            give_up_after=self.settings.worker.give_up_after,
            unknown_grace=self.settings.provider.unknown_grace,
            on_moved=waiting.moved,
        )

    def _consumer(
        self, suppressor: Suppressor, router: failures.FailureRouter, waiting: WaitingEvents
    ) -> Consumer:
        traces, counts = self._traces, ConsumerMetrics(self.metrics)
        return Consumer(
            self.settings.worker,
            queue=self._names.suppression,
            handler=suppressor,
            route_failure=router.route if traces is None else traces.route_failure(router.route),
            counts=counts if traces is None else traces.counts(counts),
            on_requeued=waiting.requeued if traces is None else traces.on_requeued(waiting.requeued),
        )

    def _announcement_consumer(self, announcements: Announcements) -> Consumer:
        return Consumer(
            self.settings.worker.model_copy(update={"prefetch": PREFETCH}),
            queue=self._names.announced,
            handler=announcements,
            route_failure=announcements.route_failure,
            counts=AnnouncementCounts(),
        )

    @cached_property
    def _names(self) -> Names:
        return topology.Names(self.settings.rabbitmq.prefix)

    @cached_property
    def _traces(self) -> EventTraces | None:
        if self.spans is None:
            return None
        scheme = self.settings.suppression.database_url.get_secret_value().partition(":")[0]
        return EventTraces(self.spans, queue=self._names.suppression, database=scheme.partition("+")[0])
