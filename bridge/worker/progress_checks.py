"""What of a worker must get on, and when it may wait: stuck is what could get on, and does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.worker.watchdog import Watched

if TYPE_CHECKING:
    from bridge.amqp.connection import Link
    from bridge.worker.address_lookup import LookUps
    from bridge.worker.consumer import Consumer
    from bridge.worker.dependencies import Dependency
    from bridge.worker.failures import Ways
    from bridge.worker.list_metrics import Survey
    from bridge.worker.relay import Relay
    from bridge.worker.suppressor import Suppressor


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker consists of, beside its connections and its dependencies."""

    consumer: Consumer
    suppressor: Suppressor
    look_ups: LookUps
    ways: Ways
    relay: Relay
    survey: Survey


def of_database(database: Dependency) -> Watched:
    """No call may hang: a database that is away says so, or is given up, long before. A disk may just never answer."""
    return Watched(
        "database",
        "a call of the list's database is not answered",
        due=lambda: database.oldest_call_at is not None,
        progress=lambda: database.oldest_call_at,
    )


def of_parts(parts: Parts, database: Dependency, publish: Link, consume: Link) -> tuple[Watched, ...]:
    """Each step that ends is progress, however it ends: a call that failed, or a publish that RabbitMQ refused."""

    def rabbitmq_up() -> bool:
        return publish.state is LinkState.UP

    def could_get_on() -> bool:
        waiting = parts.look_ups.waiting + parts.ways.waiting
        return parts.consumer.unacknowledged > waiting and rabbitmq_up() and database.available

    return (
        Watched(
            "deliveries",
            "messages are not acknowledged, and none of them gets any further",
            due=could_get_on,
            progress=lambda: (
                parts.consumer.acknowledged,
                parts.suppressor.steps,
                parts.look_ups.steps,
                parts.ways.steps,
            ),
        ),
        Watched(
            "consumer",
            "RabbitMQ is there, and nothing comes of the attempt to consume the queue",
            due=lambda: not parts.consumer.consuming and rabbitmq_up(),
            progress=lambda: (parts.consumer.consuming, consume.attempts),
        ),
        Watched(
            "relay",
            "changes of the list are looked for and published, and neither RabbitMQ nor the database answers",
            due=lambda: parts.relay.busy and rabbitmq_up() and database.available,
            progress=lambda: parts.relay.steps,
        ),
        Watched(
            "survey",
            "the list is being counted, and the database does not answer",
            due=lambda: parts.survey.counting,
            progress=lambda: parts.survey.counts,
        ),
    )
