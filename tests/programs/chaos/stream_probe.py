"""Whether RabbitMQ serves a stream: AMQP's passive declare says yes even where its process crashes at each start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelNotFoundEntity

from bridge.amqp.errors import BrokerUnavailableError, call_errors_as_loss
from bridge.text import collapse

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

_SECONDS: Final = 4.0
_LOOKS: Final = 8
_BETWEEN_SECONDS: Final = 0.15
"""A process that crashes at each start is there in between, and RabbitMQ then serves a consumer."""


async def why_unreadable(connection: AbstractConnection, stream: str) -> str:
    """RabbitMQ's words if it cannot serve the stream on this node; empty if it does, there is none, or we may not read it.

    It consumes from the next message on, and ends, some times. Tried on 3.10.8 with a stream whose writer crashes: RabbitMQ closes the channel
    (406, no replica on the local node), or the whole connection (541): so the connection should be one of its own.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            for looks_left in reversed(range(_LOOKS)):
                await _consume(connection, stream)
                await asyncio.sleep(_BETWEEN_SECONDS if looks_left else 0)
    except (ChannelAccessRefused, ChannelNotFoundEntity):
        return ""
    except TimeoutError:
        return f"no answer in {_SECONDS:g} s"
    except (AMQPError, BrokerUnavailableError) as error:
        return collapse(str(error))
    return ""


async def _consume(connection: AbstractConnection, stream: str) -> None:
    with call_errors_as_loss(connection):
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        await channel.basic_qos(prefetch_count=1)
        await channel.basic_consume(stream, _ignore, arguments={"x-stream-offset": "next"})
        await channel.close()


async def _ignore(message: DeliveredMessage) -> None:
    """What comes is not acknowledged, which a stream does not mind."""
