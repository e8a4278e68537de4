"""Where figures are measured: a broker and a receiver as real processes, and nothing beside them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from bridge.development import private_node
from bridge.receiver.handler import WEBHOOK_PATH
from tests.programs.faults.steady import resident_bytes
from tests.support.ports import free_port
from tests.support.processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.development.private_node import PrivateNode
    from tests.support.processes import Process

TOKEN: Final = "a-token-for-the-figures"
WEBHOOK: Final = WEBHOOK_PATH + TOKEN
_LOOK_EVERY_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that runs, with the settings it has when nobody sets anything."""

    process: Process
    port: int
    health: int

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.process.pid)

    async def spooled(self, http: aiohttp.ClientSession) -> int:
        """Events in its spool."""
        async with http.get(f"http://127.0.0.1:{self.health}/readyz") as answer:
            return int((await answer.json())["spool"]["entries"])

    async def empty(self) -> None:
        """Wait until everything is drained."""
        async with aiohttp.ClientSession() as http:
            left = await self.spooled(http)
            while left:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
                left = await self.spooled(http)

    async def stop(self) -> None:
        self.process.send(signal.SIGTERM)
        await self.process.ended()


class Stage:
    """One broker, and receivers one after the other on one spool."""

    def __init__(self, directory: Path, node: PrivateNode, processes: Processes) -> None:
        self.node = node
        self.spool_directory = directory / "spool"
        self._processes = processes

    async def receiver(self) -> Receiver:
        """Start one; it listens."""
        health = free_port()
        settings: dict[str, dict[str, Any]] = {
            "rabbitmq": {"urls": [self.node.url]},
            "receiver": {"host": "127.0.0.1", "port": 0, "tokens": [TOKEN]},
            "spool": {"directory": str(self.spool_directory)},
            "health": {"port": health},
            "logs": {"format": "json"},
        }
        process = await self._processes.start("receiver", overrides=settings)
        started = await process.says("receiver.started")
        return Receiver(process, started["port"], health)

    async def connected_receiver(self) -> Receiver:
        """Start one that has reached the broker."""
        receiver = await self.receiver()
        await receiver.process.says("broker.connected")
        return receiver


@asynccontextmanager
async def set_up(directory: Path) -> AsyncIterator[Stage]:
    """The broker runs; all that is started on the stage ends with it."""
    async with private_node.running_node(directory / "rabbit") as node, Processes(directory) as processes:
        yield Stage(directory, node, processes)
