"""What the libraries raise when RabbitMQ is gone becomes one error; what is none of it does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from aiormq.exceptions import AMQPConnectionError, ChannelInvalidStateError

from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError, told_as_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


def connection(*, closed: bool) -> AbstractConnection:
    inner = SimpleNamespace(is_closed=closed)
    return cast("AbstractConnection", SimpleNamespace(transport=SimpleNamespace(connection=inner)))


@pytest.mark.parametrize(
    "error",
    [
        AMQPConnectionError("reset"),
        ConnectionResetError("reset"),
        TimeoutError(),
        asyncio.InvalidStateError(),
        ChannelInvalidStateError("closed"),
        asyncio.CancelledError(),
        Exception(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_libraries_words_for_a_loss_are_one_error(error: BaseException) -> None:
    """A CancelledError that nobody asked for is one of them: aiormq rejects with it what is pending."""
    with pytest.raises(BrokerUnavailableError, match="lost"), told_as_loss(connection(closed=False)):
        raise error


async def test_a_runtime_error_is_a_loss_only_on_a_closed_connection() -> None:
    """The libraries have no better word for a closed connection; on an open one it is somebody's mistake."""
    with pytest.raises(BrokerUnavailableError), told_as_loss(connection(closed=True)):
        raise RuntimeError("closed")
    with pytest.raises(RuntimeError, match="a mistake"), told_as_loss(connection(closed=False)):
        raise RuntimeError("a mistake")


async def test_a_refusal_is_no_loss() -> None:
    """Trying again would not help, so it must not look like a loss."""
    with pytest.raises(BrokerRefusedError), told_as_loss(connection(closed=False)):
        raise BrokerRefusedError("other arguments")


async def test_a_task_that_is_cancelled_ends_cancelled() -> None:
    """Stopping a role must not look like a lost connection, or it would connect again."""

    async def work() -> None:
        with told_as_loss(connection(closed=False)):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
