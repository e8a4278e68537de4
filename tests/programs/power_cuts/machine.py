"""One machine that loses its power: RabbitMQ, the database, a receiver and a worker, all on disks that forget."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from bridge.broker.topology import Names
from bridge.development.private_node import PrivateNode
from bridge.development.simulator_api import serve_simulator
from tests.support.disk.lost import Lost
from tests.support.disk.mounting import forgetful_disk
from tests.support.ports import free_ports
from tests.support.postgres import Server, give
from tests.support.processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from tests.support.disk.mounting import Disk
    from tests.support.processes import Process

TOKEN: Final = "a-token-for-power-cuts"
AUDIT: Final = "audit"
"""A quorum queue that gets all events."""
CHANGES: Final = "list-copy"
"""One that gets all changes of the list."""
ADDRESSES: Final = 400
_MESSAGES: Final = 20_000
_DELAYS: Final = (0.5, 1.0, 2.0)
_STARTED_SECONDS: Final = 60.0


class Machine:
    """Everything runs, until `lose_power`; then `come_back`."""

    def __init__(
        self, folder: Path, disks: dict[str, Disk], node: PrivateNode, server: Server | None
    ) -> None:
        """Take what is on the disks, and runs."""
        self.names = Names()
        self.node = node
        self.port, self._health = free_ports(2)
        self._folder = folder
        self._disks = disks
        self._server = server
        self._roles: list[Process] = []
        self._processes: Processes
        self._simulator: Simulator

    @property
    def database_url(self) -> str:
        if self._server is not None:
            return self._server.url()
        return f"sqlite+aiosqlite:///{self._disks['list'].path}/list.sqlite3"

    @property
    def own_queues(self) -> list[str]:
        """Those of the worker, empty at the end."""
        return [self.names.suppression, *(self.names.retry(delay) for delay in _DELAYS)]

    async def start_roles(self) -> None:
        receiver, worker = await asyncio.gather(
            *(self._processes.start(role, overrides=self._settings(role)) for role in ("receiver", "worker"))
        )
        self._roles = [receiver, worker]
        await receiver.says("broker.connected", patience=_STARTED_SECONDS)
        await worker.says("worker.started", patience=_STARTED_SECONDS)

    async def run_on(self) -> None:
        """RabbitMQ has run for half a minute: it has put its own files on the disk, and so has the system.

        The bridge is given no such time.
        """
        await asyncio.sleep(0.5)
        await self._disks["rabbitmq"].sync()

    async def lose_power(self) -> Lost:
        """All processes end at once, and what was not durable is gone."""
        for role in self._roles:
            role.send(signal.SIGKILL)
        await asyncio.gather(
            self.node.kill(),
            *(role.ended() for role in self._roles),
            *([self._server.kill()] if self._server else []),
        )
        lost = Lost()
        for disk in self._disks.values():
            lost += await disk.cut()
        return lost

    async def come_back(self) -> None:
        """RabbitMQ and the database start again; the roles do not yet."""
        await asyncio.gather(self.node.start(), *([self._server.start()] if self._server else []))

    async def spooled(self) -> int:
        """Events in the spool.

        Raises:
            aiohttp.ClientError, TimeoutError: the receiver does not say.
        """
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"http://127.0.0.1:{self._health}/readyz") as answer,
        ):
            return int((await answer.json())["spool"]["entries"])

    def _settings(self, role: str) -> dict[str, Any]:
        return {
            "rabbitmq": {"urls": [self.node.url], "reconnect_max": 0.5},
            "receiver": {"host": "127.0.0.1", "port": self.port, "tokens": [TOKEN]},
            "health": {"port": self._health if role == "receiver" else 0},
            "spool": {"directory": f"{self._disks['spool'].path}/var/spool", "min_free_bytes": 0},
            "suppression": {"database_url": self.database_url},
            "provider": {
                "base_url": self._simulator.base_url,
                "api_token": self._simulator.token,
                "rate": 500,
                "backoff_max": 0.5,
            },
            "worker": {"retry_delays": list(_DELAYS), "pause_max": 1.0},
            "subscribers": [
                {"queue": AUDIT, "events": ["#"]},
                {"queue": CHANGES, "events": [], "changes": True},
            ],
            "logs": {"format": "json"},
        }


@asynccontextmanager
async def running(folder: Path, *, seed: int, database: str) -> AsyncIterator[Machine]:
    """A machine on which everything runs.

    Args:
        folder: empty, and open to the user of PostgreSQL.
        seed: of the disks.
        database: `sqlite` or `postgresql`.
    """
    async with AsyncExitStack() as stack:
        disks = {}
        # What is ours, and PostgreSQL, has to survive the stricter rule; RabbitMQ does not: docs/reliability.md.
        for number, (name, rule) in enumerate(_RULES.items()):
            place = folder / name
            place.mkdir()
            if name == "list" and database == "postgresql":
                give(place)
            disks[name] = await stack.enter_async_context(
                forgetful_disk(place, seed=seed * len(_RULES) + number, rule=rule)
            )
        node = PrivateNode(disks["rabbitmq"].path / "node")
        stack.callback(node.stop_port_mapper)
        stack.push_async_callback(node.kill)
        await node.start()
        server = await _postgresql(disks["list"], stack) if database == "postgresql" else None
        machine = Machine(folder, disks, node, server)
        machine._processes = await stack.enter_async_context(Processes(folder))
        machine._simulator = await stack.enter_async_context(serve_simulator())
        for number in range(1, _MESSAGES + 1):
            machine._simulator.add_message(f"recipient{number % ADDRESSES + 1}@example.org", number)
        await machine.start_roles()
        await machine.run_on()
        yield machine


_RULES: Final[dict[str, Any]] = {"rabbitmq": "journal", "spool": "posix", "list": "posix"}


async def _postgresql(disk: Disk, stack: AsyncExitStack) -> Server:
    server = await asyncio.to_thread(Server, disk.path)
    await disk.sync()  # it was made some time ago
    stack.push_async_callback(server.kill)
    await server.start()
    return server
