"""How many messages and consumers a queue has, and whether it exists. Asking needs no permission, and touches no message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.errors import call_errors_as_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def queue_counts(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """Number of ready messages in a queue, and of its consumers.

    Raises:
        aiormq.exceptions.ChannelNotFoundEntity: there is no such queue.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with call_errors_as_loss(connection):
        channel = await connection.channel(publisher_confirms=False)
        found = (await channel.declare_queue(queue, passive=True)).declaration_result
        await channel.close()
    return found.message_count or 0, found.consumer_count or 0


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
