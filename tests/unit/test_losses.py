"""What the libraries raise when RabbitMQ is gone becomes one error; what is none of it does not."""

from __future__ import annotations

import ast
import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from aiormq.exceptions import AMQPConnectionError, ChannelInvalidStateError

from bridge.amqp.errors import (
    ConnectionLostError,
    TopologyRefusedError,
    call_errors_as_loss,
    session_errors_as_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from aio_pika.abc import AbstractConnection


def connection(*, closed: bool) -> AbstractConnection:
    inner = SimpleNamespace(is_closed=closed)
    return cast("AbstractConnection", SimpleNamespace(transport=SimpleNamespace(connection=inner)))


@pytest.mark.parametrize(
    "error",
    [
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
    with pytest.raises(ConnectionLostError, match="lost"), call_errors_as_loss(connection(closed=False)):
        raise error


async def test_an_error_that_says_itself_that_it_is_a_librarys_may_be_looked_at_first() -> None:
    """Some of them say more than that something is lost; for whoever does not look, the session makes it a loss."""
    with pytest.raises(AMQPConnectionError), call_errors_as_loss(connection(closed=False)):
        raise AMQPConnectionError("reset")
    for error in (AMQPConnectionError("reset"), ChannelInvalidStateError("closed")):
        with (
            pytest.raises(ConnectionLostError, match="lost"),
            session_errors_as_loss(connection(closed=False)),
        ):
            raise error


@pytest.mark.parametrize(
    "mistake",
    [OSError("no space left"), TimeoutError(), asyncio.InvalidStateError(), RuntimeError(), KeyError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("closed", [False, True])
async def test_a_mistake_of_ours_within_a_session_is_no_loss(mistake: Exception, *, closed: bool) -> None:
    """Connecting again would not mend it, so it must not be tried for ever."""
    with pytest.raises(type(mistake)), session_errors_as_loss(connection(closed=closed)):
        raise mistake


async def test_a_runtime_error_is_a_loss_only_on_a_closed_connection() -> None:
    """The libraries have no better word for a closed connection; on an open one it is somebody's mistake."""
    with pytest.raises(ConnectionLostError), call_errors_as_loss(connection(closed=True)):
        raise RuntimeError("closed")
    with pytest.raises(RuntimeError, match="a mistake"), call_errors_as_loss(connection(closed=False)):
        raise RuntimeError("a mistake")


@pytest.mark.parametrize("within", [call_errors_as_loss, session_errors_as_loss])
async def test_a_refusal_is_no_loss(
    within: Callable[[AbstractConnection], AbstractContextManager[None]],
) -> None:
    """Trying again would not help, so it must not look like a loss."""
    with pytest.raises(TopologyRefusedError), within(connection(closed=False)):
        raise TopologyRefusedError("other arguments")


async def test_a_task_that_is_cancelled_ends_cancelled() -> None:
    """Stopping a role must not look like a lost connection, or it would connect again."""

    async def work() -> None:
        with call_errors_as_loss(connection(closed=False)):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("then", ["returns", "raises", "raises another"])
async def test_a_cancellation_that_a_library_swallows_is_none_the_less_one(then: str) -> None:
    """On Python 3.11 `wait_for` can swallow it; whoever has cancelled the task would wait for it for ever."""
    ended = asyncio.Event()

    async def swallow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "raises":
                raise
            if then == "raises another":
                raise ConnectionResetError from None

    async def work() -> None:
        try:
            with call_errors_as_loss(connection(closed=False)):
                await swallow()
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await ended.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_our_own_patience_with_the_libraries_is_no_cancellation() -> None:
    """A time-out of ours within is a loss; one around it is as it is, also where a library swallows it."""

    async def within() -> None:
        with call_errors_as_loss(connection(closed=False)):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    async def around() -> None:
        async with asyncio.timeout(0):
            with call_errors_as_loss(connection(closed=False)), suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(ConnectionLostError):
        await within()
    with pytest.raises(TimeoutError):
        await around()


ASKS = {
    "channel", "get_underlay_channel", "set_qos", "declare_exchange", "declare_queue", "get_exchange", "get_queue",
    "bind", "unbind", "consume", "ack", "nack", "reject", "queue_delete", "tx_select", "tx_rollback",
    "basic_ack", "basic_cancel", "basic_consume", "basic_nack", "basic_publish", "basic_qos", "basic_reject",
}  # fmt: skip
"""What aio-pika's and aiormq's connections and channels are asked, and wait for."""
GUARDS = {"call_errors_as_loss", "_on_channel"}
"""The second is `declaring`'s and `topology_steps`' own, within the first."""
OURS = {"topology_steps"}
"""A module of ours whose functions are called like what RabbitMQ is asked: they have the guard within."""
BRIDGE = Path(__file__).parents[2] / "bridge"


def unguarded(node: ast.AST, *, guarded: bool = False) -> Iterator[int]:
    """Lines with a question to RabbitMQ that may be lost without being told from a mistake of ours."""
    if isinstance(node, ast.With | ast.AsyncWith):
        guarded = guarded or any(called(item.context_expr) in GUARDS for item in node.items)
    asked = [node.value] if isinstance(node, ast.Await) else []
    if isinstance(node, ast.AsyncWith):
        asked = [item.context_expr for item in node.items]
    if not guarded:
        yield from (question.lineno for question in asked if called(question) in ASKS)
    for child in ast.iter_child_nodes(node):
        yield from unguarded(child, guarded=guarded)


def called(node: ast.expr) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in OURS:
        return node.func.attr
    return ast.unparse(node.func)


def test_every_question_to_rabbitmq_tells_a_loss_from_a_mistake() -> None:
    """Within a session nothing else does, so that a mistake ends the role."""
    found = [
        f"{path.relative_to(BRIDGE)}:{line}"
        for path in sorted(BRIDGE.rglob("*.py"))
        if not path.is_relative_to(BRIDGE / "testing")  # it holds no session, and has an error of its own
        for line in unguarded(ast.parse(path.read_text()))
    ]
    assert found == []
