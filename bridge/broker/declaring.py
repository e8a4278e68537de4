"""How the topology is made to stand in RabbitMQ: declared, or checked where it may not be. A refusal costs its part only."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    may_be_lost,
    task_group,
)
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError, answers_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
    from typing import Self

    from aio_pika.abc import AbstractChannel, AbstractConnection

    from bridge.broker.topology import Part, Topology

    Make = Callable[[Part], Awaitable[None]]
    _Errors = dict[Part, BrokerRefusedError | BrokerUnavailableError]

log = logs.logger("topology")

_PATIENCE_SECONDS: Final = 10.0
"""For all of ours; a connection that is open and dead would answer only when the third heartbeat is missed."""

_SUBSCRIBERS_SECONDS: Final = 3.0
"""For the queues of all subscribers: one that does not answer must not keep events from the others."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A part that does not stand as planned."""

    part: Part
    error: BrokerRefusedError | BrokerUnavailableError
    """Its message is one line: what is wrong, and what to do."""
    needed: bool
    """Whether the caller cannot work without it."""


async def attempt(
    connection: AbstractConnection, topology: Topology, mode: str, *, needed: Collection[str]
) -> tuple[Refused, ...]:
    """Make as much of the topology stand as can be, as the setting `rabbitmq.declare` says.

    All of it is tried, whatever is refused; the needed parts first, and the subscribers' at the end.

    Args:
        connection: an open connection; channels of its own are used on it.
        topology: what shall stand.
        mode: `always` declares, `never` only checks that it is there, `auto` declares what the broker user
            may and checks that the rest is there.
        needed: names of the exchanges and queues without which the caller cannot work.

    Returns:
        What is refused.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    parts = list(topology.parts())
    errors: _Errors = {}
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), _Making.on(connection) as making:
            # Exchanges before what is bound to them.
            for part in sorted(
                parts, key=lambda part: (not part.topology.exchanges, part.name not in needed)
            ):
                if not part.of_subscriber:
                    await _try(part, making.way(mode), errors)
    except TimeoutError:
        raise BrokerUnavailableError(f"RabbitMQ does not answer in {_PATIENCE_SECONDS:g} s") from None
    async with task_group() as tasks:
        for part in parts:
            if part.of_subscriber:
                tasks.create_task(_try_alone(connection, part, mode, errors), name=f"declare {part.what}")
    return tuple(
        Refused(part, errors[part], part.name in needed and not _harmless(part, errors[part]))
        for part in parts
        if part in errors and not _tolerated(part, errors[part])
    )


def insist(refused: Iterable[Refused]) -> None:
    """Raises the error of the first that is needed, if one is."""
    for one in refused:
        if one.needed:
            raise one.error


async def ensure(connection: AbstractConnection, topology: Topology, mode: str) -> None:
    """As `attempt`, where all of it is needed.

    Raises:
        TopologyMismatchError: something stands with other arguments.
        DeclareRefusedError: something is missing that may not be declared.
        BrokerUnavailableError: something is not up yet.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `attempt`.
    """
    for one in await attempt(connection, topology, mode, needed=()):
        raise one.error


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare everything; what stands already as it should is left as it is.

    Raises:
        TopologyMismatchError: something stands with other arguments.
        DeclareRefusedError: the broker user may not.
    """
    async with _Making.on(connection) as making:
        for part in topology.parts():
            await making.declare(part)


async def check(connection: AbstractConnection, topology: Topology) -> None:
    """Check that every exchange and queue is there. Bindings and arguments cannot be asked for over AMQP.

    Raises:
        DeclareRefusedError: one of them is missing.
    """
    async with _Making.on(connection) as making:
        for part in topology.parts():
            await making.check(part)


async def depth(connection: AbstractConnection, queue: str) -> int | None:
    """How many messages are ready in a queue, or None when there is no such queue."""
    try:
        return (await counts(connection, queue))[0]
    except ChannelNotFoundEntity:
        return None


async def counts(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """How many messages are ready in a queue, and how many consumers it has.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: there is no such queue, or the connection is gone.
    """
    with may_be_lost(connection):
        channel = await connection.channel(publisher_confirms=False)
        found = (await channel.declare_queue(queue, passive=True)).declaration_result
        await channel.close()
    return found.message_count or 0, found.consumer_count or 0


class _Making:
    """Makes one part after the other, on a channel that is opened anew when RabbitMQ has closed it for its no."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._said = False

    @classmethod
    @asynccontextmanager
    async def on(cls, connection: AbstractConnection) -> AsyncIterator[Self]:
        making = cls(connection)
        yield making
        if making._channel is not None:
            with may_be_lost(connection):
                await making._channel.close()

    def way(self, mode: str) -> Make:
        """How a part is made, by the setting `rabbitmq.declare`."""
        if mode == "never":
            return self.check
        return self.declare if mode == "always" else self._declare_or_check

    async def declare(self, part: Part) -> None:
        """A queue that stands with other arguments is bound all the same, so that it gets its events."""
        await self._each(part, self._declare)

    async def check(self, part: Part) -> None:
        await self._each(part, self._check)

    async def _declare_or_check(self, part: Part) -> None:
        """A worker that may declare its own queues makes them again, whatever else it may not."""

        async def one_by_one(one: Topology) -> None:
            try:
                await self._declare(one)
            except DeclareRefusedError:
                if not self._said:
                    log.info(
                        "the broker user may not declare all of it; checking the rest",
                        action="topology.check",
                    )
                self._said = True
                await self._check(one)

        await self._each(part, one_by_one)

    async def _each(self, part: Part, make: Callable[[Topology], Awaitable[None]]) -> None:
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
            async with self._asking(f"exchange '{exchange.name}'") as channel:
                await channel.declare_exchange(
                    exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
                )
        for queue in one.queues:
            async with self._asking(f"queue '{queue.name}'") as channel:
                await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        for binding in one.bindings:
            async with self._asking(f"queue '{binding.queue}'") as channel:
                bound = await channel.get_queue(binding.queue, ensure=False)
                await bound.bind(binding.exchange, binding.key)

    async def _check(self, one: Topology) -> None:
        for exchange in one.exchanges:
            async with self._asking(f"exchange '{exchange.name}'") as channel:
                await channel.get_exchange(exchange.name)
        for queue in one.queues:
            async with self._asking(f"queue '{queue.name}'") as channel:
                await channel.get_queue(queue.name)
        for binding in one.bindings:
            async with self._asking(f"exchange '{binding.exchange}'") as channel:
                await channel.get_exchange(binding.exchange)

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[AbstractChannel]:
        with may_be_lost(self._connection):
            channel = self._channel or await self._connection.channel(publisher_confirms=False)
            self._channel = None
            with answers_of(what):
                yield channel
        self._channel = channel


async def _try(part: Part, make: Make, errors: _Errors) -> None:
    try:
        await make(part)
    except ConnectionLostError:
        raise
    except (BrokerRefusedError, BrokerUnavailableError) as error:
        errors[part] = error


async def _try_alone(connection: AbstractConnection, part: Part, mode: str, errors: _Errors) -> None:
    """A subscriber's part, on a channel of its own: whatever becomes of it, the others do not wait for it."""
    try:
        async with asyncio.timeout(_SUBSCRIBERS_SECONDS), _Making.on(connection) as making:
            await _try(part, making.way(mode), errors)
    except TimeoutError:
        errors[part] = BrokerUnavailableError(
            f"{part.what}: RabbitMQ does not answer in {_SUBSCRIBERS_SECONDS:g} s"
        )


def _tolerated(part: Part, error: BrokerRefusedError | BrokerUnavailableError) -> bool:
    """The queue stands, and is bound."""
    return isinstance(error, TopologyMismatchError) and any(
        error.argument in queue.tolerated for queue in part.topology.queues
    )


def _harmless(part: Part, error: BrokerRefusedError | BrokerUnavailableError) -> bool:
    """An exchange of the right kind routes by its bindings, whatever its other arguments are."""
    is_exchange = bool(part.topology.exchanges)
    return is_exchange and isinstance(error, TopologyMismatchError) and error.argument != "type"
