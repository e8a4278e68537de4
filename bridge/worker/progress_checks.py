"""The watchdog's checks of a worker: a part is stuck when it has something to do, waits for nothing, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.worker.watchdog import ProgressCheck

if TYPE_CHECKING:
    from bridge.amqp.connection import Link
    from bridge.worker.address_lookup import AddressLookup
    from bridge.worker.announcements import Announcements
    from bridge.worker.consumer import Consumer
    from bridge.worker.dependencies import Dependency
    from bridge.worker.expirer import Expirer
    from bridge.worker.failures import FailureRouter
    from bridge.worker.freshness import FreshnessReporter
    from bridge.worker.list_metrics import ListMetrics
    from bridge.worker.pruner import Pruner
    from bridge.worker.relay import Relay
    from bridge.worker.suppressor import Suppressor


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker, without its connections and dependencies."""

    consumer: Consumer
    suppressor: Suppressor
    address_lookup: AddressLookup
    failure_router: FailureRouter
    relay: Relay
    freshness: FreshnessReporter
    list_metrics: ListMetrics
    pruner: Pruner
    announcements: Announcements
    announcement_consumer: Consumer
    expirer: Expirer


def database_check(database: Dependency) -> ProgressCheck:
    """No call to the database may hang. Calls to a database that is down fail much earlier; a disk may never answer."""
    return ProgressCheck(
        "database",
        "the database does not answer a call",
        due=lambda: database.oldest_call_at is not None,
        progress=lambda: database.oldest_call_at,
    )


def worker_checks(
    parts: WorkerParts, database: Dependency, publish: Link, consume: Link
) -> tuple[ProgressCheck, ...]:
    """Each step that ends is progress, also a call that fails, or a publish that RabbitMQ refuses."""

    def rabbitmq_up() -> bool:
        return publish.state is LinkState.UP

    def has_work() -> bool:
        waiting = parts.address_lookup.waiting + parts.failure_router.waiting
        return parts.consumer.unacknowledged > waiting and rabbitmq_up() and database.available

    def has_announcements() -> bool:
        waiting = parts.announcements.quarantining
        return parts.announcement_consumer.unacknowledged > waiting and database.available

    return (
        ProgressCheck(
            "deliveries",
            "messages are not acknowledged, and none of them makes progress",
            due=has_work,
            progress=lambda: (
                parts.consumer.acknowledged,
                parts.suppressor.steps,
                parts.address_lookup.steps,
                parts.failure_router.steps,
            ),
        ),
        ProgressCheck(
            "announcements",
            "announcements of senders are not acknowledged, and none of them makes progress",
            due=has_announcements,
            progress=lambda: (parts.announcement_consumer.acknowledged, parts.announcements.steps),
        ),
        ProgressCheck(
            "consumer",
            "RabbitMQ is connected, and the queue is not consumed",
            due=lambda: not parts.consumer.consuming and rabbitmq_up(),
            progress=lambda: (parts.consumer.consuming, consume.attempts),
        ),
        ProgressCheck(
            "relay",
            "publishing changes of the list hangs: neither RabbitMQ nor the database answers",
            due=lambda: parts.relay.busy and rabbitmq_up() and database.available,
            progress=lambda: parts.relay.steps,
        ),
        ProgressCheck(
            "list_metrics",
            "counting the list hangs: the database does not answer",
            due=lambda: parts.list_metrics.counting,
            progress=lambda: parts.list_metrics.counts,
        ),
    )
