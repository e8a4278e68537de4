"""Tasks of asyncio that belong together: how they are run, ended, and how their errors come out."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

T = TypeVar("T")


async def run_until_first_ends(**coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until the first ends; then cancel the others, and wait for them.

    Args:
        coroutines: name of the task -> coroutine.

    Raises:
        Exception: the error of the one that ended first.
    """
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in coroutines.items()]
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
    """A TaskGroup that raises its first error bare, not in an ExceptionGroup, so that callers can catch it."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as group:
        raise _first_error(group) from None


def _first_error(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def background_task(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """A named task that is cancelled at the end of the context."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def wait_while_running(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for the event, or for the end of one of these tasks, which should go on; raises what that task raised."""
    async with background_task(_wait(stop), name="stop") as stopping:
        ended, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def run_shielded(work: Coroutine[Any, Any, T], *, name: str, abandon_after: float | None = None) -> T:
    """Do the work. A cancellation is raised when the work is done, or after `abandon_after` seconds."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work, name=name)
    cancelled: asyncio.CancelledError | None = None
    abandoning: asyncio.TimerHandle | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None and abandon_after is not None:
                abandoning = loop.call_later(abandon_after, task.cancel)
            cancelled = error
    if abandoning is not None:
        abandoning.cancel()
    if cancelled is not None:
        mark_exception_retrieved(task)  # the caller gets the cancellation
        raise cancelled
    return task.result()


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Around calls of a library that can swallow a cancellation, or raise an error of its own instead: it is raised.

    Raises:
        CancelledError: this task was cancelled during the calls, whatever became of them.
    """
    before = pending_cancellations()
    try:
        yield
    except Exception as error:
        if pending_cancellations() > before:
            raise asyncio.CancelledError from error
        raise
    if pending_cancellations() > before:
        raise asyncio.CancelledError


def pending_cancellations() -> int:
    """How many cancellations of this task are pending."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def mark_exception_retrieved(outcome: asyncio.Future[Any]) -> None:
    """The waiter may be gone; asyncio would log an exception that nobody retrieved."""
    if not outcome.cancelled():
        outcome.exception()
