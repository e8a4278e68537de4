"""Consumes what an exchange routes, through a temporary queue of its own. Other consumers are not affected."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import TopologyRefusedError, call_errors_as_loss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aio_pika.abc import AbstractConnection

_PREFETCH: Final = 200
_QUEUE_LIMITS: Final[dict[str, Any]] = {
    "x-max-length": 10_000,
    "x-max-length-bytes": 16 * 1024**2,
    "x-overflow": "drop-head",
}
"""What may wait for a slow consumer. Beyond that the oldest are dropped, and no publisher notices."""


@asynccontextmanager
async def consume_temporary_queue(
    connection: AbstractConnection, bindings: Iterable[tuple[str, str]], *, name: str
) -> AsyncIterator[Deliveries]:
    """Declare an exclusive, auto-delete queue with these bindings, and consume it.

    Args:
        connection: an open connection from `open_connection`.
        bindings: exchange, which must exist, and routing key, `#` for all.
        name: prefix of the queue's name.

    Raises:
        TopologyRefusedError: there is no such exchange, or the broker user may not declare the queue.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    queue_name = f"{name}.{uuid.uuid4().hex[:12]}"
    wanted = list(bindings)
    exchange = wanted[0][0]  # named by an error of the declaration itself
    try:
        with call_errors_as_loss(connection):
            channel = await connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue(
                queue_name, exclusive=True, auto_delete=True, arguments=dict(_QUEUE_LIMITS)
            )
            for exchange, key in wanted:
                await queue.bind(exchange, key)
    except ChannelNotFoundEntity:
        raise TopologyRefusedError(
            f"there is no exchange '{exchange}'; see rabbitmq.prefix, or `bridge topology apply`"
        ) from None
    except ChannelAccessRefused:
        raise TopologyRefusedError(
            f"the broker user may not declare a queue '{name}.*' and bind it to '{exchange}'; grant it configure "
            "and write for the queue, and read for the exchange"
        ) from None
    async with Deliveries.open(connection, queue_name, prefetch=_PREFETCH) as deliveries:
        yield deliveries
