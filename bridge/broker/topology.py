"""What stands in RabbitMQ: exchanges, queues and bindings, and how they are declared or checked."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.events import MALFORMED, other_spellings
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aio_pika.abc import AbstractConnection

    from bridge.settings import RabbitMQ, Subscriber

log = logs.logger("topology")

_BOOTING = "down or inaccessible"
"""What RabbitMQ says of a stream or queue that stands on a node whose start is not finished (a 404, too)."""

_PATIENCE_SECONDS = 10.0
"""For all of it; a connection that is open and dead would answer only when the third heartbeat is missed."""

NO_LIMIT = 2**31 - 1
"""For the dead letters: each look at them counts as a delivery, and RabbitMQ 4 drops a message after 20.

-1 is no limit to RabbitMQ 4, and drops everything at once on 3.10.
"""

_DELIVERY_LIMIT = 100
"""Deliveries before a quorum queue gives a message up to the dead letters.

RabbitMQ 4 has 20 when nothing is said, 3.10 none. A worker that is killed takes one delivery from each message
it holds, so the limit must be far above what restarts use up, and still end a message that kills its workers.
"""


class TopologyMismatchError(BrokerRefusedError):
    """Something stands in RabbitMQ with other arguments than we need. The message names it and what to do."""


class DeclareRefusedError(BrokerRefusedError):
    """The broker user may not declare what is missing, or it is missing and we may only check."""


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names of design and README, behind the prefix of this installation."""

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


@dataclass(frozen=True, slots=True)
class Topology:
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def one_by_one(self) -> Iterator[Topology]:
        """Each exchange, queue and binding on its own, in the order in which they can be declared."""
        yield from (Topology((exchange,), (), ()) for exchange in self.exchanges)
        yield from (Topology((), (queue,), ()) for queue in self.queues)
        yield from (Topology((), (), (binding,)) for binding in self.bindings)


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
    own = [Queue(f"{settings.prefix}{subscriber.queue}", _quorum()) for subscriber in subscribers]
    return Topology(
        exchanges=(
            Exchange(names.unrouted, "fanout"),
            Exchange(names.events, "topic", {"alternate-exchange": names.unrouted}),
            Exchange(names.changes, "topic"),
        ),
        queues=(
            Queue(names.archive, _archive(settings)),
            Queue(names.unrouted, _quorum()),
            Queue(names.malformed, _quorum()),
            Queue(names.dead, _quorum() | {"x-delivery-limit": NO_LIMIT}),
            Queue(names.suppression, _dead_lettering(names.dead) | {"x-delivery-limit": _DELIVERY_LIMIT}),
            *(Queue(names.retry(delay), _delaying(names.suppression, delay)) for delay in retry_delays),
            *own,
        ),
        bindings=(
            Binding(names.events, names.archive, "#"),
            Binding(names.unrouted, names.unrouted, ""),
            Binding(names.events, names.malformed, MALFORMED),
            *_bindings(names.events, names.suppression, suppressing),
            *(
                binding
                for queue, subscriber in zip(own, subscribers, strict=True)
                for binding in _bindings(names.events, queue.name, subscriber.events)
            ),
        ),
    )


async def ensure(connection: AbstractConnection, topology: Topology, mode: str) -> None:
    """Make sure that the topology stands, as the setting `rabbitmq.declare` says.

    Args:
        connection: an open connection; a channel of its own is used on it.
        topology: what shall stand.
        mode: `always` declares, `never` only checks that it is there, `auto` declares what the broker user
            may and checks that the rest is there.

    Raises:
        TopologyMismatchError: something stands with other arguments.
        DeclareRefusedError: something is missing that may not be declared.
        TimeoutError: RabbitMQ does not answer.
        aiormq.exceptions.AMQPError: the connection is gone.
    """
    async with asyncio.timeout(_PATIENCE_SECONDS):
        if mode == "never":
            await check(connection, topology)
            return
        try:
            await declare(connection, topology)
        except DeclareRefusedError:
            if mode == "always":
                raise
            log.info("the broker user may not declare all of it; checking the rest", action="topology.check")
            await _declare_what_we_may(connection, topology)


async def _declare_what_we_may(connection: AbstractConnection, topology: Topology) -> None:
    """One by one: a worker that may declare its own queues makes them again, whatever else it may not."""
    for one in topology.one_by_one():
        try:
            await declare(connection, one)
        except DeclareRefusedError:
            await check(connection, one)


async def depth(connection: AbstractConnection, queue: str) -> int | None:
    """How many messages are ready in a queue, or None when there is no such queue."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        found = await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return None
    await channel.close()
    return found.declaration_result.message_count or 0


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare everything; what stands already as it should is left as it is.

    Raises:
        TopologyMismatchError: something stands with other arguments.
        DeclareRefusedError: the broker user may not.
    """
    channel = await connection.channel(publisher_confirms=False)
    for exchange in topology.exchanges:
        with _answers_of(f"exchange '{exchange.name}'"):
            await channel.declare_exchange(
                exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
            )
    for queue in topology.queues:
        with _answers_of(f"queue '{queue.name}'"):
            await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    for binding in topology.bindings:
        with _answers_of(f"queue '{binding.queue}'"):
            bound = await channel.get_queue(binding.queue, ensure=False)
            await bound.bind(binding.exchange, binding.key)
    await channel.close()


async def check(connection: AbstractConnection, topology: Topology) -> None:
    """Check that every exchange and queue is there. Bindings and arguments cannot be asked for over AMQP.

    Raises:
        DeclareRefusedError: one of them is missing.
    """
    channel = await connection.channel(publisher_confirms=False)
    for exchange in topology.exchanges:
        with _answers_of(f"exchange '{exchange.name}'"):
            await channel.get_exchange(exchange.name)
    for queue in topology.queues:
        with _answers_of(f"queue '{queue.name}'"):
            await channel.get_queue(queue.name)
    await channel.close()


@contextmanager
def _answers_of(what: str) -> Iterator[None]:
    """RabbitMQ closes the channel when its answer is no; what the no means is said here."""
    try:
        yield
    except ChannelPreconditionFailed as refusal:
        raise TopologyMismatchError(_mismatch(what, str(refusal))) from None
    except ChannelAccessRefused as refusal:
        raise DeclareRefusedError(
            f"the broker user may not declare {what}: {_plain(str(refusal))}; grant it, or declare with "
            "`bridge topology apply` as a user who may and set rabbitmq.declare to never"
        ) from None
    except ChannelNotFoundEntity as refusal:
        if _BOOTING in str(refusal):
            raise BrokerUnavailableError(f"{what} is not up yet: {_plain(str(refusal))}") from None
        raise DeclareRefusedError(
            f"{what} is missing and may not be declared here; run `bridge topology apply`"
        ) from None


def _mismatch(what: str, refusal: str) -> str:
    """RabbitMQ: "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'a' but current is 'b'"."""
    found = re.search(r"inequivalent arg '([^']+)'.*?: (received .*)", refusal, re.DOTALL)
    said = f"argument '{found[1]}': {_plain(found[2])}" if found else _plain(refusal)
    return (
        f"{what} stands with other arguments than the bridge needs: {said}; "
        "empty and delete it, or choose another rabbitmq.prefix"
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _quorum() -> dict[str, Any]:
    return {"x-queue-type": "quorum"}


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
