"""The lifetime of a role: its stop event, and its background tasks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


class Stop(asyncio.Event):
    """Set when a role must stop, or has begun to stop by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        """The error with which it stops by itself, if any."""


@dataclass(slots=True)
class Lifetime:
    """The events of a role: stop it, and it has started."""

    stop: Stop = field(default_factory=Stop)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    """The receiver's port, once it has started."""

    async def wait_until_stopped(self, *tasks: asyncio.Task[None]) -> None:
        """As `wait_while_running`. Then the stop event is set, so that the shutdown's deadline begins."""
        try:
            await wait_while_running(self.stop, *tasks)
        except Exception as error:
            self.stop.error = error
            raise
        finally:
            self.stop.set()


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
