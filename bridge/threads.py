"""Blocking calls that may never return, such as one to a disk that is gone, kept from holding up the rest."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

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
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="abandonable", daemon=True).start()
    return await outcome
