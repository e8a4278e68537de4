"""Plans the topology: which exchanges, queues and bindings there are to be, with which arguments, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.broker.topology import Binding, Exchange, Names, Queue, Topology
from bridge.events import MALFORMED, other_spellings
from bridge.settings.subscribers import together
from bridge.settings.values import MAX_DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bridge.settings.sections import RabbitMQ, Settings
    from bridge.settings.subscribers import Subscriber

NO_LIMIT = MAX_DELIVERIES
"""`x-delivery-limit` of queues whose messages are read and stay, and of subscribers, who may requeue without limit.

Each read or requeue counts as a delivery, and RabbitMQ 4 drops a message after 20 by default. -1 means no limit on
RabbitMQ 4, but on 3.10 it drops every message at once.
"""

SENT = "email.sent"
"""The routing key with which senders announce what they have sent."""

_DELIVERY_LIMIT = 100
"""`x-delivery-limit` of the worker's queues: after this many deliveries a message becomes a dead letter.

The default is 20 on RabbitMQ 4, none on 3.10. A killed worker costs each of its unacknowledged messages one delivery, so
the limit must be far above what restarts use, and still stop a message that kills its workers.
"""

_DELIVERY_LIMIT_ARGUMENT = frozenset({"x-delivery-limit"})
"""Earlier releases did not declare it for some queues; `bridge doctor` reports where it is missing."""


def planned_topology(settings: Settings, registered: Sequence[Subscriber] = ()) -> Topology:
    """The topology for these settings, and the subscribers that were registered. A subscriber of the settings wins."""
    return plan(
        settings.rabbitmq,
        suppressing=settings.suppression.used_events,
        subscribers=together(settings.subscribers, registered),
        retry_delays=settings.worker.retry_delays,
    )


def plan(
    settings: RabbitMQ,
    *,
    suppressing: Iterable[str],
    subscribers: Iterable[Subscriber] = (),
    retry_delays: Iterable[float] = (),
) -> Topology:
    """Plan the whole topology.

    Args:
        settings: prefix, and limits of the archive.
        suppressing: names of the events that the policy uses; the suppression queue is bound to them.
        subscribers: other services' queues.
        retry_delays: seconds; for each there is a delay queue, which dead-letters back to the suppression queue.
    """
    names = Names(settings.prefix)
    subscribers = tuple(subscribers)
    return Topology(
        exchanges=(
            Exchange(names.unrouted, "fanout"),
            Exchange(names.events, "topic", {"alternate-exchange": names.unrouted}),
            Exchange(names.changes, "topic"),
            Exchange(names.messages, "topic"),
        ),
        # The suppression queue before the archive: if only the archive exists, the suppression queue was deleted.
        queues=(
            Queue(names.dead, _without_delivery_limit()),
            Queue(names.backfill, _without_delivery_limit()),
            Queue(names.suppression, _dead_lettering(names.dead) | {"x-delivery-limit": _DELIVERY_LIMIT}),
            *(Queue(names.retry(delay), _delay_queue(names.suppression, delay)) for delay in retry_delays),
            Queue(names.unrouted, _without_delivery_limit(), may_differ=_DELIVERY_LIMIT_ARGUMENT),
            Queue(names.malformed, _without_delivery_limit(), may_differ=_DELIVERY_LIMIT_ARGUMENT),
            Queue(names.announced, _dead_lettering(names.malformed) | {"x-delivery-limit": _DELIVERY_LIMIT}),
            Queue(names.archive, _archive(settings)),
            *(queue for one in subscribers for queue in subscriber_queues(settings.prefix, one)),
        ),
        bindings=(
            *_bindings(names.events, names.suppression, suppressing),
            Binding(names.unrouted, names.unrouted, ""),
            Binding(names.events, names.malformed, MALFORMED),
            Binding(names.messages, names.announced, SENT),
            Binding(names.events, names.archive, "#"),
            *(binding for one in subscribers for binding in subscriber_bindings(names, one)),
        ),
    )


def subscriber_queues(prefix: str, subscriber: Subscriber) -> tuple[Queue, Queue]:
    """The queue of its dead letters, and its own, in the order in which they are to be declared.

    A full one drops its oldest messages into the former. It never rejects: RabbitMQ would nack the event, and the bridge
    would publish it to all the others again and again. At-least-once dead-lettering is only to be had with
    `reject-publish`, so this is at most once.
    """
    dead, own = f"{prefix}{subscriber.dead}", f"{prefix}{subscriber.queue}"
    limit = NO_LIMIT if subscriber.delivery_limit is None else subscriber.delivery_limit
    arguments = _quorum() | {
        "x-overflow": "drop-head",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
        "x-delivery-limit": limit,
    }
    if subscriber.max_length is not None:
        arguments["x-max-length"] = subscriber.max_length
    if subscriber.ttl is not None:
        arguments["x-message-ttl"] = round(subscriber.ttl * 1000)
    if subscriber.single_active_consumer:
        arguments["x-single-active-consumer"] = True
    return (
        Queue(
            dead,
            _without_delivery_limit() | {"x-overflow": "drop-head"},
            subscriber=subscriber.queue,
            for_dead_letters=True,
        ),
        Queue(own, arguments, subscriber=subscriber.queue),
    )


def subscriber_bindings(names: Names, subscriber: Subscriber) -> Iterator[Binding]:
    queue = f"{names.prefix}{subscriber.queue}"
    yield from _bindings(names.events, queue, subscriber.events)
    if subscriber.changes:
        yield Binding(names.changes, queue, "#")


def _quorum() -> dict[str, Any]:
    return {"x-queue-type": "quorum"}


def _without_delivery_limit() -> dict[str, Any]:
    return _quorum() | {"x-delivery-limit": NO_LIMIT}


def _dead_lettering(queue: str) -> dict[str, Any]:
    """At-least-once dead-lettering needs `reject-publish`. Otherwise RabbitMQ drops the head of the queue."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _delay_queue(back_to: str, delay: float) -> dict[str, Any]:
    """A queue with a TTL: its messages are dead-lettered to `back_to` after `delay` seconds. It needs no plugin."""
    return _dead_lettering(back_to) | {"x-message-ttl": round(delay * 1000)}


def _archive(settings: RabbitMQ) -> dict[str, Any]:
    return {
        "x-queue-type": "stream",
        "x-max-age": settings.archive_max_age,
        "x-max-length-bytes": settings.archive_max_bytes,
    }


def _bindings(exchange: str, queue: str, names: Iterable[str]) -> list[Binding]:
    """Bindings for both spellings of each name. The queue still gets each event once: see `CC` in the message."""
    keys = [key for name in names for key in (name, *other_spellings(name))]
    return [Binding(exchange, queue, key) for key in dict.fromkeys(keys)]
