"""Blocking calls that may never return, such as one to a disk that is gone, kept from holding up the rest."""

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
    """Call it in a thread that is left to itself when nobody waits for it any more.

    The loop's own executor would be waited for at the end of the program, and so for the disk.

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
        except Exception as raised:  # noqa: BLE001 -- it is raised again, where it is waited for
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="abandonable", daemon=True).start()
    return await outcome


class AbandonableThreads(Executor):
    """What a loop runs its blocking calls in, a thread for each. None is waited for when the loop, or Python, ends."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        outcome: Future[T] = Future()

        def run() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 -- it is raised again, where it is waited for
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        threading.Thread(target=run, name="blocking-call", daemon=True).start()
        return outcome
