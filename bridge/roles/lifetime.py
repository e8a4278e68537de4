"""The lifetime of a role: its stop event, and whether it has started."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bridge.tasks import wait_while_running


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
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    """The receiver's, once it has started: set while RabbitMQ takes what it publishes."""

    async def wait_until_stopped(self, *tasks: asyncio.Task[None]) -> None:
        """As `wait_while_running`. Then the stop event is set, so that the shutdown's deadline begins."""
        try:
            await wait_while_running(self.stop, *tasks)
        except Exception as error:
            self.stop.error = error
            raise
        finally:
            self.stop.set()
