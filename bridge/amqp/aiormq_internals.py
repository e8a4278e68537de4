"""Everything that the bridge uses of aio-pika and aiormq beyond their documented interface.

`tests/unit/test_aiormq_contract.py` fails when a new version changes any of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aio_pika
from aiormq.channel import Channel
from aiormq.connection import Connection

from bridge.amqp.confirm_frames import ConfirmHandler
from bridge.amqp.errors import BrokerUnavailableError, as_connection_loss
from bridge.amqp.wire import TRANSPORT_FACTORY, Wire, wire_of
from bridge.tasks import mark_exception_retrieved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aio_pika.abc import AbstractConnection
    from pamqp import commands as spec
    from yarl import URL

    from bridge.amqp.confirm_frames import ConfirmListener
    from bridge.amqp.wire import FrameHandler

T = TypeVar("T")

_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ConfirmChannel:
    """A channel in confirm mode. Publishes and confirms bypass aiormq."""

    number: int
    largest_body: int
    """Bytes of a body that fit into one frame."""
    wire: Wire
    channel: Channel
    """The channel of aiormq, which opens it and learns when it is closed."""


def make_connection(url: URL, *, client_properties: dict[str, str]) -> aio_pika.Connection:
    """A connection, not opened yet, whose frames can be handled at the socket."""
    connection = aio_pika.Connection(url, client_properties=dict(client_properties))
    connection.kwargs[TRANSPORT_FACTORY] = Wire()
    return connection


async def open_confirm_channel(connection: AbstractConnection, listener: ConfirmListener) -> ConfirmChannel:
    """Open a channel in confirm mode whose confirms go to this listener.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
    """
    wire = wire_of(connection)
    with as_connection_loss(connection):
        channel = await _open_channel(connection, publisher_confirms=True)
    wire.route(channel.number, ConfirmHandler(listener).handle)
    return ConfirmChannel(channel.number, channel.max_content_size, wire, channel)


def close_confirm_channel(confirming: ConfirmChannel) -> asyncio.Future[None]:
    """Start to close a channel that has no listener any more. The caller need not wait for it."""
    closing: asyncio.Future[None] = asyncio.ensure_future(confirming.channel.close())
    closing.add_done_callback(mark_exception_retrieved)
    return closing


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


async def open_routed_channel(connection: AbstractConnection, handler: FrameHandler) -> Channel:
    """Open a channel whose frames go to this handler; `close_routed_channel` closes it.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
    """
    wire = wire_of(connection)
    with as_connection_loss(connection):
        channel = await _open_channel(connection, publisher_confirms=False)
    wire.route(channel.number, handler)
    return channel


async def close_routed_channel(connection: AbstractConnection, channel: Channel) -> None:
    """Close it, within a time limit. Frames that still arrive for it are dropped.

    Its frames are left to aiormq only when no more can come: some deliveries would end its reader.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            with as_connection_loss(connection):
                await channel.close()
        wire_of(connection).unroute(channel.number)


def watch_alarms(
    connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
) -> None:
    """Call these at `connection.blocked` and `connection.unblocked`, which aiormq only logs."""
    transport = _aiormq_connection(connection)

    async def on_blocked(frame: spec.Connection.Blocked) -> None:
        blocked(frame.reason or "")

    async def on_unblocked(_: spec.Connection.Unblocked) -> None:
        unblocked()

    setattr(transport, BLOCKED_HANDLER, on_blocked)
    setattr(transport, UNBLOCKED_HANDLER, on_unblocked)


BLOCKED_HANDLER = "_Connection__handle_connection_blocked"
UNBLOCKED_HANDLER = "_Connection__handle_connection_unblocked"


def _aiormq_connection(connection: AbstractConnection) -> Connection:
    if connection.transport is None or not isinstance(connection.transport.connection, Connection):
        raise BrokerUnavailableError("lost: the connection was closed before it could be used")
    return connection.transport.connection


def server_says(connection: AbstractConnection, key: str) -> str:
    """What RabbitMQ says of itself at the start of a connection, such as `version`; empty where it says nothing."""
    properties = getattr(connection.transport and connection.transport.connection, "server_properties", {})
    value = properties.get(key, "")
    return value.decode() if isinstance(value, bytes) else str(value)


async def _open_channel(connection: AbstractConnection, *, publisher_confirms: bool) -> Channel:
    channel = await _aiormq_connection(connection).channel(publisher_confirms=publisher_confirms)
    if not isinstance(channel, Channel):
        raise TypeError(f"{channel} is no channel of aiormq")
    return channel
