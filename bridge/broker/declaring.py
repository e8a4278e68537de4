"""Declares the topology in RabbitMQ, or checks it where declaring is not allowed. A refusal affects one part only."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.amqp.errors import (
    BrokerUnavailableError,
    ConnectionLostError,
    TopologyRefusedError,
    call_errors_as_loss,
)
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError, explain_refusal
from bridge.tasks import task_group
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
    from typing import Self

    from aio_pika.abc import AbstractChannel, AbstractConnection

    from bridge.broker.topology import Topology, TopologyPart

    MakePart = Callable[[TopologyPart], Awaitable[None]]
    _Errors = dict[TopologyPart, TopologyRefusedError | BrokerUnavailableError]

log = logs.logger("broker")

_TIMEOUT_SECONDS: Final = 10.0
"""For all of our own parts. A connection that is open and dead fails only after three missed heartbeats."""

_SUBSCRIBERS_TIMEOUT_SECONDS: Final = 3.0
"""For the queues of all subscribers. One that does not answer must not keep events from the others."""


@dataclass(frozen=True, slots=True)
class RefusedPart:
    """A part of the topology that does not exist as planned."""

    part: TopologyPart
    error: TopologyRefusedError | BrokerUnavailableError
    """Its message is one line: what is wrong, and what to do."""
    required: bool
    """Whether the caller cannot work without it."""


async def apply_topology(
    connection: AbstractConnection, topology: Topology, mode: str, *, required: Collection[str]
) -> tuple[RefusedPart, ...]:
    """Declare or check as much of the topology as possible, according to the setting `rabbitmq.declare`.

    Every part is tried, whatever is refused: the required parts first, the subscribers' last.

    Args:
        connection: an open connection; it uses channels of its own.
        topology: the planned one.
        mode: `always` declares, `never` only checks that a part exists, `auto` declares what the broker user
            may declare and checks that the rest exists.
        required: names of the exchanges and queues without which the caller cannot work.

    Returns:
        What is refused.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    parts = list(topology.parts())
    errors: _Errors = {}
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), _Declarer.on(connection) as declarer:
            # Exchanges before what is bound to them.
            for part in sorted(
                parts, key=lambda part: (not part.topology.exchanges, part.name not in required)
            ):
                if not part.of_subscriber:
                    await _try(part, declarer.by_mode(mode), errors)
    except TimeoutError:
        raise BrokerUnavailableError(f"RabbitMQ does not answer in {_TIMEOUT_SECONDS:g} s") from None
    async with task_group() as tasks:
        for subscriber, its_parts in _by_subscriber(parts).items():
            tasks.create_task(
                _try_for_subscriber(connection, its_parts, mode, errors), name=f"declare {subscriber}"
            )
    return tuple(
        RefusedPart(part, errors[part], part.name in required and not _is_harmless(part, errors[part]))
        for part in parts
        if part in errors and not _may_differ(part, errors[part])
    )


def raise_if_required(refused: Iterable[RefusedPart]) -> None:
    """Raise the error of the first refused part that is required, if there is one."""
    for one in refused:
        if one.required:
            raise one.error


async def apply_all(connection: AbstractConnection, topology: Topology, mode: str) -> None:
    """As `apply_topology`, but every refusal is raised.

    Raises:
        TopologyMismatchError: something exists with other arguments.
        DeclareRefusedError: something is missing and may not be declared.
        BrokerUnavailableError: something is not up yet.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `apply_topology`.
    """
    for one in await apply_topology(connection, topology, mode, required=()):
        raise one.error


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare everything. What already exists as planned is left as it is.

    Raises:
        TopologyMismatchError: something exists with other arguments.
        DeclareRefusedError: the broker user may not declare it.
    """
    async with _Declarer.on(connection) as declarer:
        for part in topology.parts():
            await declarer.declare(part)


async def check(connection: AbstractConnection, topology: Topology) -> None:
    """Check that every exchange and queue exists. AMQP cannot check bindings and arguments.

    Raises:
        DeclareRefusedError: one is missing.
    """
    async with _Declarer.on(connection) as declarer:
        for part in topology.parts():
            await declarer.check(part)


class _Declarer:
    """Declares or checks parts on a channel. RabbitMQ closes it at each refusal; then a new one is opened."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._fallback_logged = False

    @classmethod
    @asynccontextmanager
    async def on(cls, connection: AbstractConnection) -> AsyncIterator[Self]:
        declarer = cls(connection)
        yield declarer
        if declarer._channel is not None:
            with call_errors_as_loss(connection):
                await declarer._channel.close()

    def by_mode(self, mode: str) -> MakePart:
        """What to do with a part, according to the setting `rabbitmq.declare`."""
        if mode == "never":
            return self.check
        return self.declare if mode == "always" else self._declare_or_check

    async def declare(self, part: TopologyPart) -> None:
        """A queue that exists with other arguments is bound all the same, so that it gets its events."""
        await self._for_each(part, self._declare)

    async def check(self, part: TopologyPart) -> None:
        await self._for_each(part, self._check)

    async def _declare_or_check(self, part: TopologyPart) -> None:
        """Check what may not be declared. A worker that may declare only its own queues still declares those."""

        async def declare_or_check(one: Topology) -> None:
            try:
                await self._declare(one)
            except DeclareRefusedError:
                if not self._fallback_logged:
                    log.info(
                        "the broker user may not declare all of the topology; the rest is checked",
                        action="topology.check",
                    )
                self._fallback_logged = True
                await self._check(one)

        await self._for_each(part, declare_or_check)

    async def _for_each(self, part: TopologyPart, make: Callable[[Topology], Awaitable[None]]) -> None:
        mismatch: TopologyMismatchError | None = None
        for one in part.topology.one_by_one():
            try:
                await make(one)
            except TopologyMismatchError as error:
                mismatch = error
        if mismatch is not None:
            raise mismatch

    async def _declare(self, one: Topology) -> None:
        for exchange in one.exchanges:
            async with self._on_channel(f"exchange '{exchange.name}'") as channel:
                await channel.declare_exchange(
                    exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
                )
        for queue in one.queues:
            async with self._on_channel(
                f"queue '{queue.name}'", of_subscriber=queue.of_subscriber
            ) as channel:
                await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        for binding in one.bindings:
            async with self._on_channel(f"queue '{binding.queue}'") as channel:
                bound = await channel.get_queue(binding.queue, ensure=False)
                await bound.bind(binding.exchange, binding.key)

    async def _check(self, one: Topology) -> None:
        for exchange in one.exchanges:
            async with self._on_channel(f"exchange '{exchange.name}'") as channel:
                await channel.get_exchange(exchange.name)
        for queue in one.queues:
            async with self._on_channel(f"queue '{queue.name}'") as channel:
                await channel.get_queue(queue.name)
        for binding in one.bindings:
            async with self._on_channel(f"exchange '{binding.exchange}'") as channel:
                await channel.get_exchange(binding.exchange)

    @asynccontextmanager
    async def _on_channel(self, what: str, *, of_subscriber: bool = False) -> AsyncIterator[AbstractChannel]:
        # In this order: that a queue is not up yet must not pass for the loss of the connection.
        with explain_refusal(what, of_subscriber=of_subscriber), call_errors_as_loss(self._connection):
            channel = self._channel or await self._connection.channel(publisher_confirms=False)
            self._channel = None
            yield channel
        self._channel = channel


async def _try(part: TopologyPart, make: MakePart, errors: _Errors) -> None:
    try:
        await make(part)
    except ConnectionLostError:
        raise
    except (TopologyRefusedError, BrokerUnavailableError) as error:
        errors[part] = error


def _by_subscriber(parts: Iterable[TopologyPart]) -> dict[str, list[TopologyPart]]:
    found: dict[str, list[TopologyPart]] = {}
    for part in parts:
        if part.subscriber is not None:
            found.setdefault(part.subscriber, []).append(part)
    return found


async def _try_for_subscriber(
    connection: AbstractConnection, parts: Iterable[TopologyPart], mode: str, errors: _Errors
) -> None:
    """A subscriber's parts in their order, on a channel of their own: the other subscribers do not wait for it."""
    left = list(parts)
    try:
        async with asyncio.timeout(_SUBSCRIBERS_TIMEOUT_SECONDS), _Declarer.on(connection) as declarer:
            while left:
                await _try(left[0], declarer.by_mode(mode), errors)
                del left[0]
    except TimeoutError:
        for part in left:
            errors[part] = BrokerUnavailableError(
                f"{part.what}: RabbitMQ does not answer in {_SUBSCRIBERS_TIMEOUT_SECONDS:g} s"
            )


def _may_differ(part: TopologyPart, error: TopologyRefusedError | BrokerUnavailableError) -> bool:
    """The queue exists and is bound; the argument may differ."""
    return isinstance(error, TopologyMismatchError) and any(
        error.argument in queue.may_differ for queue in part.topology.queues
    )


def _is_harmless(part: TopologyPart, error: TopologyRefusedError | BrokerUnavailableError) -> bool:
    """An exchange of the right type works, whatever its other arguments are."""
    is_exchange = bool(part.topology.exchanges)
    return is_exchange and isinstance(error, TopologyMismatchError) and error.argument != "type"
