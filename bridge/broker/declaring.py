"""How the topology is made to stand in RabbitMQ: declared, or checked where it may not be."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aio_pika.abc import AbstractConnection

    from bridge.broker.topology import Topology

log = logs.logger("topology")

_BOOTING = "down or inaccessible"
"""What RabbitMQ says of a stream or queue that stands on a node whose start is not finished (a 404, too)."""

_PATIENCE_SECONDS = 10.0
"""For all of it; a connection that is open and dead would answer only when the third heartbeat is missed."""


class TopologyMismatchError(BrokerRefusedError):
    """Something stands in RabbitMQ with other arguments than we need. The message names it and what to do."""


class DeclareRefusedError(BrokerRefusedError):
    """The broker user may not declare what is missing, or it is missing and we may only check."""


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
