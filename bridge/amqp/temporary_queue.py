"""Hearing what an exchange is given, without taking it from anybody: through a queue that lives as long as we listen."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerRefusedError, may_be_lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aio_pika.abc import AbstractConnection

_PREFETCH: Final = 200
_LIMITS: Final[dict[str, Any]] = {
    "x-max-length": 10_000,
    "x-max-length-bytes": 16 * 1024**2,
    "x-overflow": "drop-head",
}
"""What waits for a slow listener at the most; then it misses the oldest, and no publisher notices."""


@asynccontextmanager
async def listening(
    connection: AbstractConnection, exchange: str, keys: Iterable[str], *, name: str
) -> AsyncIterator[Deliveries]:
    """A queue that only this connection may use, and that goes with it, bound to these keys.

    Args:
        connection: an open connection of `open_connection`.
        exchange: which must stand.
        keys: routing keys, `#` for all.
        name: how the queue's name begins.

    Raises:
        BrokerRefusedError: there is no such exchange, or the broker user may not make the queue.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    own = f"{name}.{uuid.uuid4().hex[:12]}"
    try:
        with may_be_lost(connection):
            channel = await connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue(
                own, exclusive=True, auto_delete=True, arguments=dict(_LIMITS)
            )
            for key in keys:
                await queue.bind(exchange, key)
    except ChannelNotFoundEntity:
        raise BrokerRefusedError(
            f"there is no exchange '{exchange}'; see rabbitmq.prefix, or `bridge topology apply`"
        ) from None
    except ChannelAccessRefused:
        raise BrokerRefusedError(
            f"the broker user may not make a queue '{name}.*' and bind it to '{exchange}'; grant it configure "
            "and write for the queue, and read for the exchange"
        ) from None
    async with Deliveries.of(connection, own, prefetch=_PREFETCH) as deliveries:
        yield deliveries
