"""What a session on a connection is made of: parts that end together, and one error for every kind of loss."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from bridge.amqp.wire import closed_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel


class BrokerUnavailableError(ConnectionError):
    """The broker cannot be reached, or the connection was lost. Passing: it is tried again."""


class ConnectionLostError(BrokerUnavailableError):
    """The connection is gone, and with it every channel; the message says why."""


class BrokerRefusedError(Exception):
    """The broker answers, but not as we need it. Somebody has to change something; the message says what."""


@contextmanager
def may_be_lost(connection: AbstractConnection) -> Iterator[None]:
    """Around calls of aio-pika and aiormq, and nothing else: what they raise when the connection is gone, as one error.

    An AMQPError comes out as it is: it says itself that it is theirs, and some say more than that something is lost.
    When this task is cancelled meanwhile, that is what comes out: on Python 3.11 `wait_for`, which they use, can swallow
    it, and an error that comes at the same time would stand in its place.

    Raises:
        ConnectionLostError: it is gone.
    """
    cancelled_before = _cancellations()
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        if _cancellations() > cancelled_before:
            raise asyncio.CancelledError from error
        loss = _loss_in(connection, error)
        if loss is None:
            raise
        raise loss from error
    if _cancellations() > cancelled_before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often this task has been cancelled, and nobody has dealt with it yet."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _loss_in(connection: AbstractConnection, error: BaseException) -> ConnectionLostError | None:
    """What an error from the libraries says of the connection; None where it is no loss, or says so itself."""
    if isinstance(error, AMQPError):
        return None
    if isinstance(error, asyncio.CancelledError):
        # Closing, aiormq rejects what is pending with it. Nobody has cancelled this task, so that is all it means.
        return _loss(connection, "RabbitMQ was being asked something")
    if isinstance(error, OSError | asyncio.InvalidStateError | ChannelInvalidStateError):
        return _loss(connection, said(error))
    if isinstance(error, RuntimeError) and _is_closed(connection):
        return _loss(connection, said(error))
    if type(error) is Exception:
        # Where a broker has gone without a word, aiormq rejects what is pending with the bare class.
        return _loss(connection, "the connection was closed without a word")
    return None


@contextmanager
def losses_of(connection: AbstractConnection) -> Iterator[None]:
    """Around all of a session: what only aio-pika and aiormq raise becomes a loss; a mistake of ours stays one.

    Raises:
        ConnectionLostError: it is gone. `BrokerRefusedError` is no loss, and comes out as it is.
    """
    try:
        yield
    except (AMQPError, ChannelInvalidStateError) as error:
        raise _loss(connection, said(error)) from error


def _loss(connection: AbstractConnection, reason: str) -> ConnectionLostError:
    return ConnectionLostError(f"lost: {rabbitmqs_words(connection) or reason}")


def rabbitmqs_words(connection: AbstractConnection) -> str:
    """What RabbitMQ said when it closed this connection; empty where it did not, or said nothing."""
    closed = closed_with(connection)
    return f"RabbitMQ closed the connection: {closed[0]} {_line(closed[1])}" if closed else ""


def _is_closed(connection: AbstractConnection) -> bool:
    return connection.transport is None or connection.transport.connection.is_closed


async def together(**parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a session side by side until one of them ends; the others end with it.

    Args:
        parts: name of the task -> coroutine.

    Raises:
        Exception: what a part that ended raised.
    """
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises its first error as it is, so that whoever knows what to do about it can catch it."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as group:
        raise _first(group) from None


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def gone(connection: AbstractConnection) -> None:
    """Wait until this connection is closed, by whichever side.

    Raises:
        BrokerUnavailableError: always, with the reason.
    """
    transport = connection.transport
    if transport is not None:
        closing = transport.connection.closing
        await asyncio.wait([closing])
        error = None if closing.cancelled() else closing.exception()
        reason = rabbitmqs_words(connection) or (said(error) if error else "the connection was closed")
        raise BrokerUnavailableError(reason)
    raise BrokerUnavailableError("the connection was closed")


async def channel_gone(channel: AiormqChannel) -> None:
    """Wait until this channel is closed, by whichever side.

    Raises:
        BrokerUnavailableError: always, with the reason.
    """
    closing = channel.closing
    await asyncio.wait([closing])
    error = None if closing.cancelled() else closing.exception()
    raise BrokerUnavailableError(f"the channel was closed: {said(error) if error else 'no reason given'}")


def said(error: BaseException) -> str:
    """What an error says, as one line."""
    return _line(str(error)) or type(error).__name__


def _line(text: str) -> str:
    return " ".join(text.split())
