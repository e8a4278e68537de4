"""How many messages and consumers a queue has, and whether a queue or an exchange exists. Asking needs no permission, and touches no message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.errors import call_errors_as_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

_LEADER_SECONDS: Final = 0.25
"""If the leader of a quorum queue does not answer RabbitMQ in this time, RabbitMQ answers us that there are no messages and
no consumers (`rabbit_quorum_queue:stat`, the same in 3.10 and 4.0)."""
_MOST_ASKS: Final = 4
"""Of a network where every answer takes longer than that, too, an answer is needed in the end."""


async def queue_counts(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """Number of ready messages in a queue, and of its consumers.

    What RabbitMQ says of a quorum queue whose leader is too busy to answer is not taken for an empty queue: it is asked again.

    Raises:
        aiormq.exceptions.ChannelNotFoundEntity: there is no such queue.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with call_errors_as_loss(connection):
        channel = await connection.channel(publisher_confirms=False)
        for _ in range(_MOST_ASKS):
            asked = asyncio.get_running_loop().time()
            found = (await channel.declare_queue(queue, passive=True)).declaration_result
            counts = found.message_count or 0, found.consumer_count or 0
            if any(counts) or asyncio.get_running_loop().time() - asked < _LEADER_SECONDS:
                break
        await channel.close()
    return counts


async def ready_messages(connection: AbstractConnection, queue: str) -> int | None:
    """Number of ready messages in a queue; None if there is no such queue."""
    try:
        return (await queue_counts(connection, queue))[0]
    except ChannelNotFoundEntity:
        return None


async def queue_exists(connection: AbstractConnection, queue: str) -> bool:
    """Whether there is such a queue.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    return await ready_messages(connection, queue) is not None


async def exchange_exists(connection: AbstractConnection, exchange: str) -> bool:
    """Whether there is such an exchange.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with call_errors_as_loss(connection):
        channel = await connection.channel(publisher_confirms=False)
        try:
            await channel.get_exchange(exchange, ensure=True)
        except ChannelNotFoundEntity:
            return False
        await channel.close()
    return True
