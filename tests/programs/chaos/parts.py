"""What a fault is done to: a process of the bridge, a node of RabbitMQ, PostgreSQL; each with its disk, if it has one."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from tests.programs.chaos.disks import synced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bridge.development.private_node import PrivateNode
    from tests.support.disk.mounting import Disk
    from tests.support.node import Control
    from tests.support.postgres import Server
    from tests.support.processes import Process

    Spawn = Callable[[Mapping[str, str]], Awaitable[Process]]

_STARTED_AGAIN_SECONDS: Final = 0.5
"""After a role has ended by itself: so long Compose and Kubernetes wait at first, too."""
_STOP_SECONDS: Final = 20.0


class Part(Protocol):
    """Runs, until it is killed; holds its lock whoever has broken it."""

    name: str
    lock: asyncio.Lock
    disk: Disk | None

    async def kill(self) -> None:
        """SIGKILL; returns when nothing of it runs any more."""

    async def start(self) -> None:
        """Start it again; returns when it has begun, and not before it can do its work."""

    def pause(self) -> None:
        """SIGSTOP."""

    def resume(self) -> None:
        """SIGCONT."""


class Role:
    """A process of the bridge that is started again when it ends by itself, as Compose and Kubernetes do."""

    def __init__(self, name: str, spawn: Spawn, *, disk: Disk | None = None) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.disk = disk
        self.fell: list[str] = []
        """Why it has ended by itself, each time."""
        self.processes: list[Process] = []
        """All that it has been; the last one is the one that runs."""
        self._spawn = spawn
        self._environment: Mapping[str, str] = MappingProxyType({})
        self._watch: asyncio.Task[None] | None = None

    @property
    def process(self) -> Process:
        return self.processes[-1]

    async def start(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start it, with these variables in addition, which also hold when it has ended by itself."""
        self._environment = environment
        self.processes.append(await self._spawn(environment))
        self._watch = asyncio.create_task(self._kept_up(), name=f"watch of {self.name}")

    async def kill(self) -> None:
        await self._unwatched()
        with suppress(ProcessLookupError):
            self.process.kill_now()
        await self.process.ended()

    async def stop(self) -> None:
        """SIGTERM, and the end; SIGKILL if that does not come."""
        await self._unwatched()
        with suppress(ProcessLookupError):
            self.process.send(signal.SIGTERM)
        try:
            await self.process.ended(patience=_STOP_SECONDS)
        except TimeoutError:
            self.fell.append(f"SIGTERM did not end it in {_STOP_SECONDS:g} s")
            await self.kill()

    def pause(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send(signal.SIGCONT)

    async def _unwatched(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None

    async def _kept_up(self) -> None:
        while True:
            code = await self.process.ended(patience=None)
            self.fell.append(f"ended with {code}: {' '.join(self.process.failures[-1:])}")
            await asyncio.sleep(_STARTED_AGAIN_SECONDS)
            self.processes.append(await self._spawn(self._environment))


class Broker:
    """A node of RabbitMQ, and what an operator does to it."""

    def __init__(self, name: str, node: PrivateNode, control: Control, disk: Disk | None) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.disk = disk
        self.node = node
        self.control = control

    async def kill(self) -> None:
        await self.node.kill()

    async def start(self) -> None:
        await self.node.start()
        await self.run_on()

    async def run_on(self) -> None:
        """As half a minute later, when the system has written back all it had.

        RabbitMQ syncs what it confirms, but not its feature flags, and does not start where a power cut has left them empty.
        """
        await asyncio.to_thread(synced, self.node.directory / "data")

    def pause(self) -> None:
        self.node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.node.signal(signal.SIGCONT)


class Database:
    """PostgreSQL."""

    def __init__(self, server: Server, disk: Disk | None) -> None:
        self.name = "postgresql"
        self.lock = asyncio.Lock()
        self.disk = disk
        self.server = server

    async def kill(self) -> None:
        await self.server.kill()

    async def start(self) -> None:
        await self.server.start()

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()
