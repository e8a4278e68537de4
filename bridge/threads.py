"""Runs blocking calls that may never return, such as one to a lost disk, in threads that nobody waits for at the end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def run_abandonable(call: Callable[[], T]) -> T:
    """Run the call in a thread that is abandoned when the caller is cancelled.

    Python waits for the threads of the loop's default executor at the end, and so for the disk.

    Raises:
        Exception: what the call raises.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # it is a T where there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001 -- it is raised again in the caller
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="abandonable", daemon=True).start()
    return await outcome


class AbandonableThreads(Executor):
    """An executor with a daemon thread for each call. Neither the loop nor Python waits for them at the end."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        outcome: Future[T] = Future()

        def run() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 -- it is raised again in the caller
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        threading.Thread(target=run, name="blocking-call", daemon=True).start()
        return outcome
