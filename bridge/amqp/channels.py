"""Opens and closes channels and connections of aiormq, by its documented interface only: both paths use it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiormq import Channel
from aiormq import Connection as AiormqConnection
from aiormq.exceptions import AMQPError

from bridge.amqp.errors import BrokerUnavailableError, call_errors_as_loss
from bridge.tasks import mark_exception_retrieved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aio_pika.abc import AbstractConnection

T = TypeVar("T")

_CLOSE_SECONDS: Final = 2.0


def aiormq_connection(connection: AbstractConnection) -> AiormqConnection:
    """The connection of aiormq under a connection of aio-pika.

    Raises:
        BrokerUnavailableError: it is closed.
    """
    if connection.transport is None or not isinstance(connection.transport.connection, AiormqConnection):
        raise BrokerUnavailableError("lost: the connection was closed before it could be used")
    return connection.transport.connection


async def open_channel(connection: AbstractConnection, *, publisher_confirms: bool) -> Channel:
    """Open a channel of aiormq.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
    """
    with call_errors_as_loss(connection):
        channel = await aiormq_connection(connection).channel(publisher_confirms=publisher_confirms)
    if not isinstance(channel, Channel):
        raise TypeError(f"{channel} is no channel of aiormq")
    return channel


def on_consumer_cancelled(channel: Channel, callback: Callable[[], None]) -> None:
    """Call it when RabbitMQ cancels a consumer of this channel, if this version of aiormq reports that."""
    callbacks = getattr(channel, "on_consumer_cancel_callbacks", None)
    if callbacks is not None:
        callbacks.add(lambda _: callback())


def start_closing(channel: Channel) -> asyncio.Future[None]:
    """Start to close a channel that has no listener any more. The caller need not wait for it."""
    closing: asyncio.Future[None] = asyncio.ensure_future(channel.close())
    closing.add_done_callback(mark_exception_retrieved)
    return closing


async def close_channel(connection: AbstractConnection, channel: Channel) -> bool:
    """Close it, within a time limit; returns whether the broker has answered.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """

    async def close() -> None:
        with call_errors_as_loss(connection):
            await channel.close()

    try:
        await call_with_timeout(close(), _CLOSE_SECONDS)
    except TimeoutError:
        return False
    return True


async def close_connection(connection: AbstractConnection, seconds: float) -> None:
    """Close it in order, within a time limit; errors are ignored.

    Where a broker hangs, aiormq's close cannot be cancelled: it waits until everything is sent.
    """
    with suppress(AMQPError, OSError, TimeoutError):
        await call_with_timeout(connection.close(), seconds)


async def call_with_timeout(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """Await a call of aiormq in a task of its own: its `wait_for` can swallow a cancellation on Python 3.11.

    Raises:
        TimeoutError: it takes longer than `seconds`.
        Exception: what the call raises.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(mark_exception_retrieved)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def server_says(connection: AbstractConnection, key: str) -> str:
    """What RabbitMQ says of itself at the start of a connection, such as `version`; empty where it says nothing."""
    properties = getattr(connection.transport and connection.transport.connection, "server_properties", {})
    value = properties.get(key, "")
    return value.decode() if isinstance(value, bytes) else str(value)
