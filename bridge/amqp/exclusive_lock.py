"""A lock held in RabbitMQ: an exclusive queue, which is deleted when its connection ends."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from bridge.amqp.errors import call_errors_as_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def try_acquire(connection: AbstractConnection, name: str) -> bool:
    """Try to acquire the lock; returns whether this connection has it. A user who may not declare queues always gets it.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with call_errors_as_loss(connection):
        channel = await connection.channel(publisher_confirms=False)
        try:
            await channel.declare_queue(name, exclusive=True)
        except ChannelLockedResource:
            return False
        except ChannelAccessRefused:
            return True
        await channel.close()
    return True


async def release(connection: AbstractConnection, name: str) -> None:
    """Release the lock while this connection stays open.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, and the lock with it.
    """
    with call_errors_as_loss(connection), suppress(ChannelAccessRefused):
        channel = await connection.channel(publisher_confirms=False)
        await channel.queue_delete(name)
        await channel.close()
