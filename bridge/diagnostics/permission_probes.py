"""Whether the broker user may do what the roles do, tried without a message being sent or taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bridge.amqp.errors import may_be_lost

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage


async def may_write(connection: AbstractConnection, exchange: str) -> bool | None:
    """Whether we may publish to this exchange; None where there is none.

    A publish in a transaction that is rolled back: RabbitMQ checks the permission at the publish, and routes nothing
    before the commit (AMQP 0-9-1, class tx). Tried on 3.10.8 and 4.0.5.
    """
    with may_be_lost(connection):
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        await channel.tx_select()
        try:
            await channel.basic_publish(b"", exchange=exchange, routing_key="bridge.doctor")
            await channel.tx_rollback()
        except ChannelAccessRefused:
            return False
        except ChannelNotFoundEntity:
            return None
        await channel.close()
    return True


async def may_read(connection: AbstractConnection, queue: str) -> bool | None:
    """Whether we may consume from this queue; None where there is none.

    A consume with an argument that RabbitMQ has to refuse: it checks the permission first, the argument next, and
    makes no consumer. Tried on 3.10.8 and 4.0.5, where a priority that is no number is a 406.
    """
    with may_be_lost(connection):
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        try:
            await channel.basic_consume(queue, _never, arguments={"x-priority": "none"})
        except ChannelAccessRefused:
            return False
        except ChannelNotFoundEntity:
            return None
        except ChannelPreconditionFailed:
            return True
        await channel.close()
    return True


async def _never(message: DeliveredMessage) -> None:
    """Nothing is delivered to a consumer that was refused."""
