"""A lock that RabbitMQ keeps: a queue that only its connection may use, and that ends with it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from bridge.amqp.errors import may_be_lost

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def lock(connection: AbstractConnection, name: str) -> bool:
    """Whether nobody else has the lock of this name. Who may declare no queue gets it in any case.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    with may_be_lost(connection):
        channel = await connection.channel(publisher_confirms=False)
        try:
            await channel.declare_queue(name, exclusive=True)
        except ChannelLockedResource:
            return False
        except ChannelAccessRefused:
            return True
        await channel.close()
    return True


async def unlock(connection: AbstractConnection, name: str) -> None:
    """Let others have it while this connection lives on.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone, and the lock with it.
    """
    with may_be_lost(connection), suppress(ChannelAccessRefused):
        channel = await connection.channel(publisher_confirms=False)
        await channel.queue_delete(name)
        await channel.close()
