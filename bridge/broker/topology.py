"""What a topology is made of: exchanges, queues and bindings; and the names of ours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_MOVING: Final = ".moving"
_MAX_NAME_LENGTH: Final = 240
"""RabbitMQ allows 255 bytes, all our names are ASCII, and `moving_back` and locks are longer."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, with the arguments that it is declared with."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    subscriber: str | None = None
    """The other service that it belongs to, by the name of its queue without the prefix; None: it is our own."""
    for_dead_letters: bool = False
    """Whether it is the one for the dead letters of that service."""
    may_differ: frozenset[str] = frozenset()
    """Arguments that may differ: an earlier release declared them otherwise, and that does no harm."""

    @property
    def of_subscriber(self) -> bool:
        """Whether it belongs to another service: an entry of `[[subscribers]]`, or one that was registered."""
        return self.subscriber is not None


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to an exchange, with its routing key."""

    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names that docs/reference/topology.md lists, behind the prefix of this installation."""

    prefix: str = ""

    @property
    def events(self) -> str:
        """The topic exchange to which every event is published, with its name as the routing key."""
        return f"{self.prefix}email.events"

    @property
    def archive(self) -> str:
        """The stream of all events of the last days."""
        return f"{self.prefix}email.events.archive"

    @property
    def unrouted(self) -> str:
        """The alternate exchange, and its queue: events that no other queue was bound for."""
        return f"{self.prefix}email.unrouted"

    @property
    def malformed(self) -> str:
        """The quarantine: bodies that were no events."""
        return f"{self.prefix}email.malformed"

    @property
    def suppression(self) -> str:
        """The worker's queue."""
        return f"{self.prefix}suppression"

    @property
    def dead(self) -> str:
        """The queue of dead letters."""
        return f"{self.prefix}suppression.dead"

    def retry(self, delay: float) -> str:
        """The delay queue for this many seconds: `suppression.retry.30s`, `.5m`, `.1h`."""
        return f"{self.prefix}suppression.retry.{_short_duration(delay)}"

    @property
    def changes(self) -> str:
        """The topic exchange to which every change of the list is published."""
        return f"{self.prefix}suppression.changes"

    @property
    def messages(self) -> str:
        """The topic exchange to which senders publish which message they have sent to which address."""
        return f"{self.prefix}email.messages"

    @property
    def announced(self) -> str:
        """The worker's queue of these."""
        return f"{self.prefix}suppression.messages"

    @property
    def backfill(self) -> str:
        """The queue of backfill markers: the suppression queue still has to be filled from the archive."""
        return f"{self.prefix}suppression.backfill"

    def is_reserved(self, name: str) -> bool:
        """Whether no other service may have a queue or exchange of this name: `email.…`, `suppression`, `suppression.…`."""
        own = name.removeprefix(self.prefix)
        return name.startswith(self.prefix) and (
            own == "suppression" or own.startswith(("suppression.", "email."))
        )


@dataclass(frozen=True, slots=True)
class Topology:
    """Exchanges, queues and bindings."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def parts(self) -> Iterator[TopologyPart]:
        """The parts that can be declared independently: each exchange, and each queue with its bindings."""
        for exchange in self.exchanges:
            yield TopologyPart(f"exchange '{exchange.name}'", exchange.name, Topology((exchange,), (), ()))
        for queue in self.queues:
            bindings = tuple(binding for binding in self.bindings if binding.queue == queue.name)
            part = Topology((), (queue,), bindings)
            yield TopologyPart(f"queue '{queue.name}'", queue.name, part, subscriber=queue.subscriber)

    def one_by_one(self) -> Iterator[Topology]:
        """Each exchange, queue and binding on its own, in the order in which they can be declared."""
        yield from (Topology((exchange,), (), ()) for exchange in self.exchanges)
        yield from (Topology((), (queue,), ()) for queue in self.queues)
        yield from (Topology((), (), (binding,)) for binding in self.bindings)


@dataclass(frozen=True, slots=True)
class TopologyPart:
    """An exchange, or a queue with its bindings."""

    what: str
    """For people: `queue 'crm'`."""
    name: str
    topology: Topology
    subscriber: str | None = None
    """As in `Queue`."""

    @property
    def of_subscriber(self) -> bool:
        """As in `Queue`."""
        return self.subscriber is not None


def moving(queue: str) -> str:
    """The queue that keeps this one's messages while it is moved; an exchange of the same name leads there."""
    name = f"{queue}{_MOVING}"
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(queue.encode()).hexdigest()[:16]
    return f"{queue[: _MAX_NAME_LENGTH - len(digest) - len(_MOVING) - 1]}.{digest}{_MOVING}"


def moving_back(queue: str) -> str:
    """The exchange that leads back to the queue."""
    return f"{moving(queue)}.back"


def without_queues(topology: Topology, *names: str) -> Topology:
    """The topology without these queues and their bindings."""
    return Topology(
        topology.exchanges,
        tuple(queue for queue in topology.queues if queue.name not in names),
        tuple(binding for binding in topology.bindings if binding.queue not in names),
    )


def without_exchange(topology: Topology, name: str) -> Topology:
    """The topology without this exchange and the bindings to it."""
    return Topology(
        tuple(exchange for exchange in topology.exchanges if exchange.name != name),
        topology.queues,
        tuple(binding for binding in topology.bindings if binding.exchange != name),
    )


def for_exchange(topology: Topology, name: str) -> Topology:
    """What is needed so that what is published to this exchange arrives: it, the queues of those who are bound to it, these bindings."""
    bindings = tuple(binding for binding in topology.bindings if binding.exchange == name)
    bound = {binding.queue for binding in bindings}
    subscribers = {queue.subscriber for queue in topology.queues if queue.name in bound} - {None}
    return Topology(
        tuple(exchange for exchange in topology.exchanges if exchange.name == name),
        tuple(queue for queue in topology.queues if queue.name in bound or queue.subscriber in subscribers),
        bindings,
    )


def _short_duration(seconds: float) -> str:
    """30 -> `30s`, 300 -> `5m`, 3600 -> `1h`, 0.25 -> `250ms`."""
    milliseconds = round(seconds * 1000)
    for size, unit in ((3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
