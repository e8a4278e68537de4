"""What all faults have in common: they are broken and mended in one context, and can be skipped with a reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg
from aiormq.exceptions import AMQPError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PATIENCE_SECONDS: Final = 90.0
_AGAIN_SECONDS: Final = 0.5
_ONCE_SECONDS: Final = 10.0
AWAY: Final = (
    OSError,
    TimeoutError,
    AssertionError,
    AMQPError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)
"""How somebody is refused who asks a part that is broken at that moment. `Control` fails with an assertion."""


class SkippedError(Exception):
    """A fault cannot be done. The message says why."""


async def once(action: Callable[[], Awaitable[object]]) -> None:
    """Break something through a part that may be broken already. Half of it may have been done when it fails.

    Raises:
        SkippedError: it is.
    """
    try:
        async with asyncio.timeout(_ONCE_SECONDS):
            await action()
    except AWAY as error:
        raise SkippedError(f"{type(error).__name__}: {error}"[:200]) from None


async def until_done(action: Callable[[], Awaitable[object]]) -> None:
    """Mend something through a part that others may still have to mend.

    Raises:
        AssertionError: it cannot be mended.
    """
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await _done(action):  # noqa: ASYNC110 -- other processes: there is no event to await
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        raise AssertionError(f"in {_PATIENCE_SECONDS:g} s this could not be mended: {action}") from None


async def _done(action: Callable[[], Awaitable[object]]) -> bool:
    try:
        async with asyncio.timeout(_ONCE_SECONDS):
            await action()
    except AWAY:
        return False
    return True
