"""All that we use of aio-pika and aiormq beyond their documented interface, in one place.

`tests/unit/test_aiormq_contract.py` fails when an upgrade changes any of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aio_pika
from aiormq.channel import Channel
from aiormq.connection import Connection

from bridge.amqp.errors import BrokerUnavailableError, may_be_lost
from bridge.amqp.wire import FACTORY, Wire, wire_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aio_pika.abc import AbstractConnection
    from pamqp import commands as spec
    from yarl import URL

    from bridge.amqp.wire import Confirmations, Taker

T = TypeVar("T")

_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ConfirmChannel:
    """A channel in confirm mode whose publishes and confirms go past aiormq."""

    number: int
    largest_body: int
    """Bytes of a message's body that fit into one frame."""
    wire: Wire
    channel: Channel
    """aiormq's, which opens it and learns when it is closed."""


def on_our_wire(url: URL, *, client_properties: dict[str, str]) -> aio_pika.Connection:
    """A connection, not opened yet, whose confirms can be heard at the socket."""
    connection = aio_pika.Connection(url, client_properties=dict(client_properties))
    connection.kwargs[FACTORY] = Wire()
    return connection


async def open_confirm_channel(connection: AbstractConnection, listener: Confirmations) -> ConfirmChannel:
    """Open a channel in confirm mode, and have this listener hear its confirms.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
    """
    wire = wire_of(connection)
    with may_be_lost(connection):
        channel = await _open_channel(connection, publisher_confirms=True)
    wire.listen(channel.number, listener)
    return ConfirmChannel(channel.number, channel.max_content_size, wire, channel)


def close_confirm_channel(confirming: ConfirmChannel) -> asyncio.Future[None]:
    """Have a channel closed that nobody listens to any more; it need not be waited for."""
    closing: asyncio.Future[None] = asyncio.ensure_future(confirming.channel.close())
    closing.add_done_callback(_retrieve)
    return closing


async def apart(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """Await a call of aiormq in a task of its own: where it uses `wait_for`, Python 3.11 can swallow a cancellation.

    Raises:
        TimeoutError: it takes longer.
        Exception: what the call raises.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_retrieve)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def _retrieve(outcome: asyncio.Future[Any]) -> None:
    """Whoever waited may have gone; asyncio would log the error that nobody took."""
    if not outcome.cancelled():
        outcome.exception()


async def open_taken_channel(connection: AbstractConnection, taker: Taker) -> Channel:
    """Open a channel whose frames go to this taker; `close_taken_channel` ends it.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
    """
    wire = wire_of(connection)
    with may_be_lost(connection):
        channel = await _open_channel(connection, publisher_confirms=False)
    wire.hand_to(channel.number, taker)
    return channel


async def close_taken_channel(connection: AbstractConnection, channel: Channel) -> None:
    """Close it; what still arrives for it goes nowhere. A broker that says nothing is not waited for.

    Its frames are aiormq's again only when nothing more can come: at some deliveries its reader would end.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            with may_be_lost(connection):
                await channel.close()
        wire_of(connection).hand_back(channel.number)


def watch_alarms(
    connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
) -> None:
    """Be told of `connection.blocked` and `connection.unblocked`, which aiormq only logs."""
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
