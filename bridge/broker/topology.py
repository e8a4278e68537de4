"""What shall stand in RabbitMQ: exchanges, queues and bindings, with their names and arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.events import MALFORMED, other_spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bridge.settings.sections import RabbitMQ, Subscriber

NO_LIMIT = 2**31 - 1
"""Where messages are looked at and stay, or are a subscriber's, who may requeue them as often as he likes.

Each look or requeue counts as a delivery, and RabbitMQ 4 drops a message after 20 where nothing is said. -1 is no limit
to RabbitMQ 4, and drops everything at once on 3.10.
"""

_DELIVERY_LIMIT = 100
"""Deliveries before a quorum queue gives a message up to the dead letters.

RabbitMQ 4 has 20 when nothing is said, 3.10 none. A worker that is killed takes one delivery from each message
it holds, so the limit must be far above what restarts use up, and still end a message that kills its workers.
"""

_LIMIT = frozenset({"x-delivery-limit"})
"""What earlier releases have not declared of some queues; `bridge doctor` says where it is missing."""


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    of_subscriber: bool = False
    """Whether it is another service's, one of `[[subscribers]]`."""
    tolerated: frozenset[str] = frozenset()
    """Arguments that may be others: an earlier release declared them so, and nobody is the worse for it."""


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names that docs/reference/topology.md lists, behind the prefix of this installation."""

    prefix: str = ""

    @property
    def events(self) -> str:
        return f"{self.prefix}email.events"

    @property
    def archive(self) -> str:
        return f"{self.prefix}email.events.archive"

    @property
    def unrouted(self) -> str:
        return f"{self.prefix}email.unrouted"

    @property
    def malformed(self) -> str:
        return f"{self.prefix}email.malformed"

    @property
    def suppression(self) -> str:
        return f"{self.prefix}suppression"

    @property
    def dead(self) -> str:
        return f"{self.prefix}suppression.dead"

    def retry(self, delay: float) -> str:
        """The delay queue of so many seconds: `suppression.retry.30s`, `.5m`, `.1h`."""
        return f"{self.prefix}suppression.retry.{_short(delay)}"

    @property
    def changes(self) -> str:
        return f"{self.prefix}suppression.changes"

    @property
    def backfill(self) -> str:
        """The queue of the markers which say that the suppression queue is still to be filled from the archive."""
        return f"{self.prefix}suppression.backfill"


@dataclass(frozen=True, slots=True)
class Topology:
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def parts(self) -> Iterator[Part]:
        """What stands or falls on its own: each exchange, and each queue with its bindings."""
        for exchange in self.exchanges:
            yield Part(f"exchange '{exchange.name}'", exchange.name, Topology((exchange,), (), ()))
        for queue in self.queues:
            bindings = tuple(binding for binding in self.bindings if binding.queue == queue.name)
            part = Topology((), (queue,), bindings)
            yield Part(f"queue '{queue.name}'", queue.name, part, of_subscriber=queue.of_subscriber)

    def one_by_one(self) -> Iterator[Topology]:
        """Each exchange, queue and binding on its own, in the order in which they can be declared."""
        yield from (Topology((exchange,), (), ()) for exchange in self.exchanges)
        yield from (Topology((), (queue,), ()) for queue in self.queues)
        yield from (Topology((), (), (binding,)) for binding in self.bindings)


@dataclass(frozen=True, slots=True)
class Part:
    """An exchange, or a queue with its bindings."""

    what: str
    """For people: `queue 'crm'`."""
    name: str
    topology: Topology
    of_subscriber: bool = False


def without_queues(topology: Topology, *names: str) -> Topology:
    """The same, but for these queues and their bindings."""
    return Topology(
        topology.exchanges,
        tuple(queue for queue in topology.queues if queue.name not in names),
        tuple(binding for binding in topology.bindings if binding.queue not in names),
    )


def plan(
    settings: RabbitMQ,
    *,
    suppressing: Iterable[str],
    subscribers: Iterable[Subscriber] = (),
    retry_delays: Iterable[float] = (),
) -> Topology:
    """All that shall stand.

    Args:
        settings: the prefix and the archive's limits.
        suppressing: names of the events that the policy uses; the worker's queue is bound to them.
        subscribers: other services' queues.
        retry_delays: seconds; each has a queue from which messages come back to the worker's.
    """
    names = Names(settings.prefix)
    own = [
        Queue(f"{settings.prefix}{subscriber.queue}", _kept(), of_subscriber=True, tolerated=_LIMIT)
        for subscriber in subscribers
    ]
    return Topology(
        exchanges=(
            Exchange(names.unrouted, "fanout"),
            Exchange(names.events, "topic", {"alternate-exchange": names.unrouted}),
            Exchange(names.changes, "topic"),
        ),
        # The suppression queue before the archive: where the archive stands without it, it has been deleted.
        queues=(
            Queue(names.dead, _kept()),
            Queue(names.backfill, _kept()),
            Queue(names.suppression, _dead_lettering(names.dead) | {"x-delivery-limit": _DELIVERY_LIMIT}),
            *(Queue(names.retry(delay), _delaying(names.suppression, delay)) for delay in retry_delays),
            Queue(names.unrouted, _kept(), tolerated=_LIMIT),
            Queue(names.malformed, _kept(), tolerated=_LIMIT),
            Queue(names.archive, _archive(settings)),
            *own,
        ),
        bindings=(
            *_bindings(names.events, names.suppression, suppressing),
            Binding(names.unrouted, names.unrouted, ""),
            Binding(names.events, names.malformed, MALFORMED),
            Binding(names.events, names.archive, "#"),
            *(
                binding
                for queue, subscriber in zip(own, subscribers, strict=True)
                for binding in _bindings(names.events, queue.name, subscriber.events)
            ),
        ),
    )


def _quorum() -> dict[str, Any]:
    return {"x-queue-type": "quorum"}


def _kept() -> dict[str, Any]:
    return _quorum() | {"x-delivery-limit": NO_LIMIT}


def _dead_lettering(queue: str) -> dict[str, Any]:
    """At-least-once dead-lettering needs `reject-publish`: RabbitMQ drops the head of the queue otherwise."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _delaying(back_to: str, delay: float) -> dict[str, Any]:
    """What is put in comes out of the other queue `delay` seconds later, without a plugin."""
    return _dead_lettering(back_to) | {"x-message-ttl": round(delay * 1000)}


def _short(seconds: float) -> str:
    """30 -> `30s`, 300 -> `5m`, 3600 -> `1h`, 0.25 -> `250ms`."""
    milliseconds = round(seconds * 1000)
    for size, unit in ((3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _archive(settings: RabbitMQ) -> dict[str, Any]:
    return {
        "x-queue-type": "stream",
        "x-max-age": settings.archive_max_age,
        "x-max-length-bytes": settings.archive_max_bytes,
    }


def _bindings(exchange: str, queue: str, names: Iterable[str]) -> list[Binding]:
    """A queue bound to both spellings of a name still gets each event once: see `CC` in the message."""
    keys = [key for name in names for key in (name, *other_spellings(name))]
    return [Binding(exchange, queue, key) for key in dict.fromkeys(keys)]
