"""Tests permissions of the broker user without publishing or consuming a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bridge.amqp.errors import call_errors_as_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage


async def may_write(connection: AbstractConnection, exchange: str) -> bool | None:
    """Whether we may publish to this exchange; None if there is no such exchange.

    It publishes in a transaction and rolls back: RabbitMQ checks the permission at the publish, and routes nothing before
    the commit (AMQP 0-9-1, class tx). Tested with 3.10.8 and 4.0.5.
    """
    with call_errors_as_loss(connection):
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
    """Whether we may consume from this queue; None if there is no such queue.

    It consumes with an invalid argument: RabbitMQ checks the permission first, then the argument, and makes no consumer.
    Tested with 3.10.8 and 4.0.5, where a priority that is not a number is a 406.
    """
    with call_errors_as_loss(connection):
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
    """Never called: the consumer is refused."""
