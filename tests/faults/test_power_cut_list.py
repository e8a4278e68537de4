"""The power fails under a worker and the database of its list: what was acknowledged to RabbitMQ is on the list."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import stores
from tests.support.disk.mounting import FUSE_MISSING, forgetful_disk
from tests.support.postgres import Server, give
from tests.support.working import bounced, bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.disk.mounting import Disk
    from tests.support.processes import Processes
    from tests.support.working import Workplace

pytestmark = pytest.mark.skipif(FUSE_MISSING is not None, reason=str(FUSE_MISSING))

EVENTS = 120


@dataclass(frozen=True, slots=True)
class Machine:
    """With the database on its disk."""

    disk: Disk
    database_url: str
    server: Server | None = None
    """None: the list is in SQLite."""

    async def lose_power(self) -> None:
        """And have it again."""
        if self.server is not None:
            await self.server.kill()
        await self.disk.cut()
        if self.server is not None:
            await self.server.start()


@pytest.fixture(params=["sqlite", "postgresql"])
async def machine(request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    """Its list is still to be made."""
    # PostgreSQL runs as another user where the tests run as root, and may not enter a test's own folder.
    with tempfile.TemporaryDirectory(prefix="bridge-power-cut-") as folder:
        async with _machine(request.param, Path(folder)) as machine:
            yield machine


@asynccontextmanager
async def _machine(kind: str, mounted: Path) -> AsyncIterator[Machine]:
    if kind == "postgresql":
        give(mounted)
    async with forgetful_disk(mounted, seed=7) as disk, AsyncExitStack() as stack:
        if kind == "sqlite":
            yield Machine(disk, f"sqlite+aiosqlite:///{mounted}/list.sqlite3")
            return
        server = await asyncio.to_thread(Server, mounted)
        await disk.sync()  # it was made some time ago
        stack.push_async_callback(server.kill)
        await server.start()
        yield Machine(disk, server.url(), server)


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], machine: Machine) -> dict[str, dict[str, Any]]:
    """Batches of ten: a cut comes between some of them."""
    return changed(
        overrides,
        suppression={"database_url": machine.database_url},
        worker={"batch_size": 10, "prefetch": 50},
    )


async def test_what_the_worker_acknowledged_survives_power_cuts(
    machine: Machine, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """The first in the moment in which it has made its list. At the end each event is counted once, each change was told of."""
    await workplace.send(*bounces(range(1, EVENTS + 1)))
    for told in (1, 50):
        worker = await processes.start("worker", overrides=overrides)
        changes = await workplace.changes(told)
        worker.send(signal.SIGKILL)
        await worker.ended()
        await machine.lose_power()
        # A change is published only when it is on the disk; and whoever heard of it may have acted on it.
        logged = {number for (number,) in await stores.query(machine.database_url, "SELECT id FROM changes")}
        assert {change["id"] for change in changes} <= logged
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")  # the one before it may have published all changes
    await workplace.changes(EVENTS)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await workplace.listed() == bounced(range(1, EVENTS + 1))
    assert await workplace.left() == []
    assert await workplace.dead() == []
