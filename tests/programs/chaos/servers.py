"""RabbitMQ and PostgreSQL: started once for many seeds, which have a virtual host and a database each."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.development.private_node import PrivateNode, stored_name
from tests.programs.chaos.disks import disk_of, synced
from tests.programs.chaos.parts import Broker, Database
from tests.support.node import Control
from tests.support.postgres import Server, give

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


_POSTGRESQL: Final = "max_connections = 60\nshared_buffers = 16MB\n"
_LIMITS: Final = "vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 1MB\n"


class Servers:
    """All of them run."""

    def __init__(self, brokers: list[Broker], database: Database) -> None:
        self.brokers = brokers
        self.database = database
        self.is_worn = False
        """Whether something of a run could not be removed: what was judged holds, and the next run wants new ones."""

    @contextmanager
    def worn_by(self, *errors: type[Exception]) -> Iterator[None]:
        """What comes of removing something. Args: errors: after which they are worn."""
        try:
            yield
        except errors:
            self.is_worn = True

    @property
    def control(self) -> Control:
        """Of the first node."""
        return self.brokers[0].control

    def keep_logs(self, place: Path) -> None:
        """Copy them, before they are gone."""
        for broker in self.brokers:
            logs = [broker.node.log, *(broker.node.directory / "log").glob("*.log")]
            for log in filter(Path.exists, logs):
                shutil.copy(log, place / f"{broker.name}-{log.name}")
        shutil.copy(self.database.server.log, place / "postgresql.log")


@asynccontextmanager
async def running(folder: Path, *, nodes: int, seed: int) -> AsyncIterator[Servers]:
    """As many nodes of RabbitMQ, and PostgreSQL, each with a disk of its own.

    Raises:
        NodeError: RabbitMQ does not start.
        AssertionError: PostgreSQL does not.
    """
    await asyncio.to_thread(folder.chmod, 0o711)  # PostgreSQL runs as another user where this runs as root
    async with _postgresql(folder, seed) as database, _brokers(folder, nodes, seed) as brokers:
        yield Servers(brokers, database)


@asynccontextmanager
async def _postgresql(folder: Path, seed: int) -> AsyncIterator[Database]:
    own = _folder(folder, "postgresql")
    give(own)
    async with disk_of(folder, "postgresql", seed=seed, rule="journal") as (place, disk):
        give(place)
        (own / "data").symlink_to(place)
        server = await asyncio.to_thread(Server, own, settings=_POSTGRESQL)
        await asyncio.to_thread(synced, place)
        try:
            await server.start()
            yield Database(server, disk)
        finally:
            await server.stop()


@asynccontextmanager
async def _brokers(folder: Path, count: int, seed: int) -> AsyncIterator[list[Broker]]:
    names = [f"rabbitmq-{number}" for number in range(count)]
    nodes = _nodes([_folder(folder, name) for name in names])
    async with AsyncExitStack() as stack:
        disks = []
        for name, node in zip(names, nodes, strict=True):
            place, disk = await stack.enter_async_context(disk_of(folder, name, seed=seed, rule="journal"))
            (node.directory / "data").symlink_to(place)
            disks.append(disk)
        stack.callback(nodes[0].stop_port_mapper)
        for node in nodes:
            stack.push_async_callback(node.stop)
        await asyncio.gather(*(node.start() for node in nodes))
        brokers = [
            Broker(name, node, stack.enter_context(Control.with_shell(node.environment)), disk)
            for name, node, disk in zip(names, nodes, disks, strict=True)
        ]
        for broker in brokers:
            await broker.run_on()
        yield brokers


def _folder(folder: Path, name: str) -> Path:
    """For what a machine writes beside its data."""
    made = folder / name
    made.mkdir(mode=0o711)
    return made


def _nodes(folders: list[Path]) -> list[PrivateNode]:
    """One node, or a cluster of them, whose names, cookie and port mapper are in common."""
    first = PrivateNode(folders[0], extra_config=_LIMITS, management=True)
    if len(folders) == 1:
        return [first]
    peers = "".join(
        f"cluster_formation.classic_config.nodes.{number} = {stored_name(folder)}\n"
        for number, folder in enumerate(folders, 1)
    )
    config = f"{_LIMITS}cluster_formation.peer_discovery_backend = classic_config\n{peers}"
    nodes = [PrivateNode(folders[0], extra_config=config, management=True)]
    for folder in folders[1:]:
        nodes.append(
            PrivateNode(
                folder,
                extra_config=config,
                port_mapper=nodes[0].port_mapper,
                home=folders[0],
                management=True,
            )
        )
    return nodes
