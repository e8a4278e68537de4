"""The errors of a broker connection, and how errors of aio-pika and aiormq become them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from bridge.amqp.message_path import broker_close
from bridge.tasks import pending_cancellations
from bridge.text import collapse, error_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel


class BrokerUnavailableError(ConnectionError):
    """The broker cannot be reached, or the connection was lost. Temporary: it is tried again."""


class ConnectionLostError(BrokerUnavailableError):
    """The connection is closed, and every channel with it. The message says why."""


class TopologyRefusedError(Exception):
    """The broker refuses what the bridge needs. Somebody has to change something; the message says what."""


@contextmanager
def call_errors_as_loss(connection: AbstractConnection) -> Iterator[None]:
    """Around calls of aio-pika and aiormq, and nothing else: translate what they raise at a lost connection into one error.

    An AMQPError is not translated: its class is already specific. If this task was cancelled meanwhile, CancelledError is
    raised: on Python 3.11 their `wait_for` can swallow a cancellation, or an error at the same time can replace it.

    Raises:
        ConnectionLostError: the connection is lost.
    """
    cancelled_before = pending_cancellations()
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        if pending_cancellations() > cancelled_before:
            raise asyncio.CancelledError from error
        loss = _loss_from(connection, error)
        if loss is None:
            raise
        raise loss from error
    if pending_cancellations() > cancelled_before:
        raise asyncio.CancelledError


def _loss_from(connection: AbstractConnection, error: BaseException) -> ConnectionLostError | None:
    """The loss that a library error means; None if it is not a loss, or an AMQPError."""
    if isinstance(error, AMQPError):
        return None
    if isinstance(error, asyncio.CancelledError):
        # aiormq cancels pending calls when it closes. This task was not cancelled, so it means a loss.
        return _loss(connection, "the connection was closed during a call")
    if isinstance(error, OSError | asyncio.InvalidStateError | ChannelInvalidStateError):
        return _loss(connection, error_line(error))
    if isinstance(error, RuntimeError) and _is_closed(connection):
        return _loss(connection, error_line(error))
    if type(error) is Exception:
        # When a broker disappears, aiormq rejects pending calls with a bare Exception.
        return _loss(connection, "the connection was closed without a reason")
    return None


@contextmanager
def session_errors_as_loss(connection: AbstractConnection) -> Iterator[None]:
    """Around a whole session: translate the errors that only aio-pika and aiormq raise. Our own bugs pass through.

    Raises:
        ConnectionLostError: the connection is lost. `TopologyRefusedError` passes through.
    """
    try:
        yield
    except (AMQPError, ChannelInvalidStateError) as error:
        raise _loss(connection, error_line(error)) from error


def _loss(connection: AbstractConnection, reason: str) -> ConnectionLostError:
    return ConnectionLostError(f"lost: {close_reason(connection) or reason}")


def close_reason(connection: AbstractConnection) -> str:
    """Why RabbitMQ closed this connection; empty if it did not, or gave no reason."""
    closed = broker_close(connection)
    return f"RabbitMQ closed the connection: {closed[0]} {collapse(closed[1])}" if closed else ""


def _is_closed(connection: AbstractConnection) -> bool:
    return connection.transport is None or connection.transport.connection.is_closed


async def wait_closed(connection: AbstractConnection) -> None:
    """Wait until this connection is closed, by either side.

    Raises:
        BrokerUnavailableError: always, with the reason.
    """
    transport = connection.transport
    if transport is not None:
        closing = transport.connection.closing
        await asyncio.wait([closing])
        error = None if closing.cancelled() else closing.exception()
        reason = close_reason(connection) or (error_line(error) if error else "the connection was closed")
        raise BrokerUnavailableError(reason)
    raise BrokerUnavailableError("the connection was closed")


async def wait_channel_closed(channel: AiormqChannel) -> None:
    """Wait until this channel is closed, by either side.

    Raises:
        BrokerUnavailableError: always, with the reason.
    """
    closing = channel.closing
    await asyncio.wait([closing])
    error = None if closing.cancelled() else closing.exception()
    raise BrokerUnavailableError(
        f"the channel was closed: {error_line(error) if error else 'no reason given'}"
    )
