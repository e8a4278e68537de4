"""Where everything is measured: one private broker, an empty topology for each measurement, and peace between them."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.broker import declaring, topology, topology_plan
from bridge.broker.queue_counts import ready_messages
from bridge.development import private_node
from bridge.settings.loading import load_settings
from tests.programs.bench import usage
from tests.programs.bench.load import Load
from tests.programs.faults.stage import WEBHOOK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.development.private_node import PrivateNode

_AT_REST: Final = 0.05
"""The share of a core below which a broker has nothing left to do."""
_LOOK_EVERY_SECONDS: Final = 0.5
_REST_SECONDS: Final = 15.0
_COUNT_SECONDS: Final = 10.0
"""RabbitMQ counts a stream's messages anew every 5 s."""


class Place:
    def __init__(self, directory: Path, node: PrivateNode) -> None:
        self.node = node
        self.load = Load(directory, WEBHOOK)
        self._directory = directory
        self._numbers = itertools.count()
        settings = load_settings()
        self._topology = topology_plan.plan(settings.rabbitmq, suppressing=settings.suppression.used_events)

    def directory(self) -> Path:
        """A new one, on the disk that is measured on."""
        path = self._directory / f"{next(self._numbers)}"
        path.mkdir()
        return path

    @property
    def broker(self) -> usage.Usage:
        return usage.of_group(self.node.pid)

    def streamed_bytes(self) -> int:
        """What the segments of all streams take on the disk; 0 where RabbitMQ keeps them elsewhere, as in a container."""
        segments = (path for path in self._directory.rglob("*.segment") if "stream" in path.parts)
        return sum(path.stat().st_size for path in segments)

    async def clean(self) -> None:
        """The topology as `bridge topology apply` declares it, with nothing in it."""
        async with await aio_pika.connect(self.node.url) as connection:
            channel = await connection.channel()
            for queue in self._topology.queues:
                await channel.queue_delete(queue.name)
            await declaring.declare(connection, self._topology)
        await self.rest()

    async def archived(self, expected: int) -> int:
        """How many events are in the archive since it was clean; waits a little for as many as are expected."""
        deadline = time.monotonic() + _COUNT_SECONDS
        async with await aio_pika.connect(self.node.url) as connection:
            while True:
                found = await ready_messages(connection, topology.Names().archive) or 0
                if found >= expected or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def rest(self) -> None:
        """Wait until the broker has nothing left to do, or for a good while."""
        deadline = time.monotonic() + _REST_SECONDS
        used, share = self.broker.cpu, 1.0
        while share > _AT_REST and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            share = (self.broker.cpu - used) / _LOOK_EVERY_SECONDS
            used = self.broker.cpu


@asynccontextmanager
async def set_up(directory: Path) -> AsyncIterator[Place]:
    """The broker runs.

    Args:
        directory: on a real disk; everything that is written goes there.
    """
    async with private_node.running_node(directory / "rabbit") as node:
        place = Place(directory, node)
        await place.clean()
        yield place
