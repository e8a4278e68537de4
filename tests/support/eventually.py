"""For what can only be looked at, never awaited: a counter, or what stands in the broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS: Final = 90
_LOOK_EVERY_SECONDS: Final = 0.01


async def eventually(holds: Callable[[], bool]) -> None:
    """Look until it holds; fails when it does not in good time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 -- there is no event to await: that is what this is for
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
