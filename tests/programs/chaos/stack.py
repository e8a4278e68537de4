"""What a seed runs on: receivers and workers as real processes, and a virtual host and a database of their own."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from bridge.broker.topology import Names
from bridge.development.simulator_api import serve_simulator
from tests.programs.chaos.disks import disk_of
from tests.programs.chaos.injecting import AWAY
from tests.programs.chaos.parts import Role
from tests.programs.chaos.schedule import RECEIVERS, WORKERS
from tests.programs.chaos.ways import Way
from tests.support import postgres
from tests.support.ports import free_ports
from tests.support.processes import Process, Processes
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from tests.programs.chaos.parts import Part
    from tests.programs.chaos.servers import Servers

TOKEN: Final = "a-token-for-the-chaos"
PASSWORD: Final = "a-password-of-the-chaos"
AUDIT: Final = "audit"
"""The queue that gets all events, and that nobody deletes."""
CRM: Final = "crm"
"""Another service's queue, which is deleted now and then."""
CHANGES: Final = "list-copy"
"""The queue that gets all changes of the list, and that nobody deletes."""
CRM_EVENTS: Final = ("opened", "clicked", "complained")
DELAYS: Final = (0.5, 1.0, 2.0)
ADDRESSES: Final = 60
"""Recipients, all in turn, so that the events of one address meet each other."""
_MESSAGES: Final = 60_000
"""The simulator knows them."""
_STARTED_SECONDS: Final = 120.0


class Stack:
    """All parts, running; faults break and mend them."""

    def __init__(self, servers: Servers, folder: Path, name: str) -> None:
        self.servers = servers
        self.folder = folder
        self.name = name
        """Of its virtual host, its user of RabbitMQ, its database and its user of that."""
        self.names = Names()
        self.roles: dict[str, Role] = {}
        self.ways: dict[str, Way] = {}
        self.locks: dict[str, asyncio.Lock] = {}
        """Of what is neither a part nor a way: the rights, the provider, …"""
        self.ports: dict[str, int] = {}
        """Of the receivers."""
        self.health: dict[str, int] = {}
        self.spools: dict[str, Path] = {}
        self.retired: list[Role] = []
        """Those that were there only while there were more of them."""
        self.subscribed: Callable[..., None] = _nobody
        """Is told which queues stand again, after a deletion."""
        self.simulator: Simulator
        self._processes: Processes

    @property
    def parts(self) -> dict[str, Part]:
        """All that runs, by name."""
        database = self.servers.database
        return {**self.roles, **{one.name: one for one in self.servers.brokers}, database.name: database}

    @property
    def receivers(self) -> list[str]:
        return [f"receiver-{number}" for number in range(RECEIVERS)]

    @property
    def workers(self) -> list[str]:
        return [f"worker-{number}" for number in range(WORKERS)]

    @property
    def broker_urls(self) -> list[str]:
        """For the harness: as the user who may do everything, and past all ways."""
        return [str(URL(one.node.url).with_path(f"/{self.name}")) for one in self.servers.brokers]

    @property
    def database_url(self) -> str:
        """For the harness, as the superuser."""
        return self.servers.database.server.url(self.name)

    @property
    def subscribers(self) -> list[dict[str, Any]]:
        return [
            {"queue": AUDIT, "events": ["#"]},
            {"queue": CRM, "events": list(CRM_EVENTS)},
            {"queue": CHANGES, "events": [], "changes": True},
        ]

    def lock(self, name: str) -> asyncio.Lock:
        """Of a part, a way, or whatever else has this name."""
        owner = self.parts.get(name) or self.ways.get(name)
        return owner.lock if owner else self.locks.setdefault(name, asyncio.Lock())

    def webhook(self, receiver: str) -> str:
        """Where the provider posts: along its way."""
        [url] = self.ways[f"provider>{receiver}"].urls([f"http://127.0.0.1:{self.ports[receiver]}/"])
        return str(URL(url).with_path(f"/webhooks/msndr/{TOKEN}"))

    async def apply_topology(self) -> None:
        """`bridge topology apply`, as an operator would."""
        environment = os.environ | {
            "BRIDGE_RABBITMQ__URLS": ",".join(self.broker_urls),
            "BRIDGE_RABBITMQ__MANAGEMENT_URL": self.servers.brokers[0].node.management_url or "",
            "BRIDGE_SUPPRESSION__DATABASE_URL": self.database_url,
            "BRIDGE_CONFIG": str(self.folder / "operator.toml"),
        }
        process = await start_bridge("topology", "apply", cwd=self.folder, env=environment)
        _, said = await process.communicate()
        if process.returncode:
            raise AssertionError(f"bridge topology apply failed: {said.decode()[-500:]}")

    async def add(self, name: str) -> Role:
        """One more worker or receiver, beside the first one, whose ways and disk it shares."""
        role, _, _ = name.partition("-")
        self.roles[name] = part = Role(
            name, partial(self._spawn, role, f"{role}-0", 0), disk=self.roles[f"{role}-0"].disk
        )
        await part.start()
        return part

    async def spooled(self) -> int:
        """Events in all the spools.

        Raises:
            aiohttp.ClientError, TimeoutError: a receiver does not say.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            return sum([await self._entries(session, name) for name in self.receivers])

    async def _entries(self, session: aiohttp.ClientSession, receiver: str) -> int:
        async with session.get(f"http://127.0.0.1:{self.health[receiver]}/readyz") as answer:
            return int((await answer.json())["spool"]["entries"])

    async def _spawn(self, role: str, ways_of: str, port: int, environment: Mapping[str, str]) -> Process:
        return await self._processes.start(
            role,
            overrides=self._settings(role, ways_of, port),
            environment=environment,
            fresh="LD_PRELOAD" in environment,
        )

    def _settings(self, role: str, ways_of: str, port: int) -> dict[str, Any]:
        of_broker = [str(URL(url).with_user(self.name).with_password(PASSWORD)) for url in self.broker_urls]
        settings: dict[str, Any] = {
            "rabbitmq": {
                "urls": self.ways[f"{ways_of}>rabbitmq"].urls(of_broker),
                "management_url": self.servers.brokers[0].node.management_url,
                "reconnect_max": 0.5,
                "heartbeat": 6,
            },
            "health": {"port": self.health[ways_of] if port else 0},
            "logs": {"format": "json"},
            "subscribers": self.subscribers,
        }
        if role == "receiver":
            settings["receiver"] = {"host": "127.0.0.1", "port": port, "tokens": [TOKEN]}
            settings["spool"] = {"directory": str(self.spools[ways_of]), "min_free_bytes": 0}
            return settings
        [database] = self.ways[f"{ways_of}>postgresql"].urls(
            [self.servers.database.server.url(self.name, user=self.name, password=PASSWORD)]
        )
        [provider] = self.ways["workers>provider"].urls([self.simulator.base_url])
        settings["provider"] = {
            "base_url": provider,
            "reserve_url": "",
            "api_token": self.simulator.token,
            "rate": 500,
            "timeout": 2.0,
            "backoff_max": 0.5,
            "retry_after_max": 1.0,
        }
        settings["worker"] = {"retry_delays": list(DELAYS), "pause_max": 1.0}
        settings["suppression"] = {"database_url": database}
        return settings

    async def _open(self, stack: AsyncExitStack, seed: int) -> None:
        self._processes = await stack.enter_async_context(Processes(self.folder))
        self.simulator = await stack.enter_async_context(serve_simulator())
        for number in range(1, _MESSAGES + 1):
            self.simulator.add_message(f"recipient{number % ADDRESSES + 1}@example.org", number)
        ports = iter(free_ports(2 * RECEIVERS))
        for receiver in self.receivers:
            self.ports[receiver], self.health[receiver] = next(ports), next(ports)
            place, disk = await stack.enter_async_context(
                disk_of(self.folder, receiver, seed=seed, rule="posix")
            )
            self.spools[receiver] = place / "spool"
            spawn = partial(self._spawn, "receiver", receiver, self.ports[receiver])
            self.roles[receiver] = Role(receiver, spawn, disk=disk)
        for worker in self.workers:
            self.roles[worker] = Role(worker, partial(self._spawn, "worker", worker, 0))
        await self._lay_ways(stack)

    async def _lay_ways(self, stack: AsyncExitStack) -> None:
        database = self.servers.database.server.url(self.name)
        ends = {
            **{f"{role}>rabbitmq": self.broker_urls for role in self.roles},
            **{f"{worker}>postgresql": [database] for worker in self.workers},
            **{f"provider>{one}": [f"http://127.0.0.1:{port}/"] for one, port in self.ports.items()},
            "workers>provider": [self.simulator.base_url],
        }
        for name, urls in ends.items():
            self.ways[name] = await Way.to(name, urls, stack)


@asynccontextmanager
async def standing(servers: Servers, folder: Path, *, seed: int, name: str) -> AsyncIterator[Stack]:
    """A stack that works: all roles have started, and reached what they need.

    Args:
        servers: run.
        folder: empty, for what the roles write.
        seed: of the disks.
        name: of the virtual host and the database, not used before.
    """
    stack = Stack(servers, folder, name)
    async with AsyncExitStack() as open_parts:
        await open_parts.enter_async_context(_host(stack))
        await open_parts.enter_async_context(_database(stack))
        await stack._open(open_parts, seed)
        open_parts.push_async_callback(_killed, stack)
        (folder / "operator.toml").write_text(_operators(stack))
        await asyncio.gather(*(role.start() for role in stack.roles.values()))
        for number, role in stack.roles.items():
            said = "broker.connected" if number in stack.receivers else "worker.started"
            await role.process.says(said, patience=_STARTED_SECONDS)
        for broker in servers.brokers:
            await broker.run_on()
        yield stack


def _nobody(*_: str) -> None:
    """Nobody writes it down."""


async def _killed(stack: Stack) -> None:
    await asyncio.gather(*(role.kill() for role in stack.roles.values()))


def _operators(stack: Stack) -> str:
    """The settings of `bridge topology apply`: what the topology depends on."""
    of_each = "".join(
        f'[[subscribers]]\nqueue = "{one["queue"]}"\nevents = {one["events"]}\n'
        f"changes = {str(one.get('changes', False)).lower()}\n"
        for one in stack.subscribers
    )
    return f"[worker]\nretry_delays = {list(DELAYS)}\n{of_each}"


@asynccontextmanager
async def _host(stack: Stack) -> AsyncIterator[None]:
    """The virtual host, and a user of RabbitMQ who may do everything in it."""
    control = stack.servers.control
    await control.add_virtual_host(stack.name)
    await control.add_user(stack.name, PASSWORD, configure="^$", write="^$", read="^$")
    await control.set_tags(stack.name, "management")
    await control.set_permissions(stack.name, host=stack.name)
    yield
    with stack.servers.worn_by(*AWAY):
        await control.delete_virtual_host(stack.name)
        await control.delete_user(stack.name)


@asynccontextmanager
async def _database(stack: Stack) -> AsyncIterator[None]:
    """The database, and its owner."""
    url = stack.servers.database.server.url()
    await postgres.execute(
        url,
        f"CREATE ROLE \"{stack.name}\" LOGIN PASSWORD '{PASSWORD}'",
        f'CREATE DATABASE "{stack.name}" OWNER "{stack.name}"',
    )
    yield
    with stack.servers.worn_by(*AWAY):
        await postgres.execute(url, f'DROP DATABASE "{stack.name}" WITH (FORCE)', f'DROP ROLE "{stack.name}"')
