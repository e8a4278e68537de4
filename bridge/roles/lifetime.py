"""How long a role lives: told to stop, it ends its parts in order."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


class Stop(asyncio.Event):
    """Set when a role shall stop, or has begun to by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        """Why it ends by itself."""


@dataclass(slots=True)
class Lifetime:
    """How a role is told to stop, and how it tells that it has started."""

    stop: Stop = field(default_factory=Stop)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    """Where the receiver listens, once it has started."""

    async def until_stopped(self, *tasks: asyncio.Task[None]) -> None:
        """As `until`; then the role ends, and has its time for that, also where a task has ended it."""
        try:
            await until(self.stop, *tasks)
        except Exception as error:
            self.stop.error = error
            raise
        finally:
            self.stop.set()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """A named task that ends with the context, at the latest."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for the word to stop, or for a task that should have gone on; raises what that one raised."""
    async with running(_wait(stop), name="stop") as stopping:
        ended, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
