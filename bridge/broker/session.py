"""What a session on a connection is made of: parts that end together, and one error for every kind of loss."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiormq.exceptions import AMQPError, ChannelInvalidStateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel


class BrokerUnavailableError(ConnectionError):
    """The broker cannot be reached, or the connection was lost. Passing: it is tried again."""


class BrokerRefusedError(Exception):
    """The broker answers, but not as we need it. Somebody has to change something; the message says what."""


@contextmanager
def told_as_loss(connection: AbstractConnection) -> Iterator[None]:
    """Everything that the libraries raise when a connection or a channel is gone, as one error.

    Raises:
        BrokerUnavailableError: it is gone. `BrokerRefusedError` is no loss, and comes out as it is.
    """
    try:
        yield
    except (AMQPError, OSError, asyncio.InvalidStateError, ChannelInvalidStateError) as error:
        raise BrokerUnavailableError(f"lost: {said(error)}") from error
    except RuntimeError as error:
        if not _is_closed(connection):
            raise
        raise BrokerUnavailableError(f"lost: {said(error)}") from error
    except Exception as error:
        # Where a broker has gone without a word, aiormq rejects what is pending with the bare class.
        if type(error) is not Exception:
            raise
        raise BrokerUnavailableError("lost: the connection was closed without a word") from error
    except asyncio.CancelledError:
        # Closing, aiormq rejects what is pending with it. If nobody has cancelled this task, that is all it means.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailableError("lost: RabbitMQ was being asked something") from None


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
        raise BrokerUnavailableError(said(error) if error else "the connection was closed")
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
    return " ".join(str(error).split()) or type(error).__name__
