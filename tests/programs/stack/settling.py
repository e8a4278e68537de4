"""What takes a while to be so, as on a busy machine: it is looked at again and again, and the last look counts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from tests.programs.stack.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOOK_EVERY_SECONDS: Final = 1.0


async def still_wrong(look: Callable[[], Awaitable[list[str]]], *, patience: float) -> list[str]:
    """Look until nothing is wrong.

    Args:
        look: what is wrong now, one line each; an EngineError is that, too.
        patience: seconds.

    Returns:
        What was wrong at the last look, if the patience has ended before.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            wrong = await look()
        except EngineError as error:
            wrong = [str(error)]
        if not wrong:
            return []
        if time.monotonic() > deadline:
            return [f"{line} (still so after {patience:g} s)" for line in wrong]
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
