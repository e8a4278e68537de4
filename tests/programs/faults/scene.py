"""What a fault is injected into: broker, proxies, simulator, receivers and workers, under load."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.topology import Names
from bridge.development.private_node import PrivateNode
from bridge.development.simulator_api import serve_simulator
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.spool.listing import list_files
from tests.programs.faults.events import ADDRESSES, KNOWN_MESSAGES
from tests.programs.faults.events import events as endless_events
from tests.support.history.consuming import Consumer, declare_change_queue, waiting_messages
from tests.support.history.history import History
from tests.support.history.list_reading import ListReader, reading_list
from tests.support.history.mail import recipients_of
from tests.support.history.posting import Poster
from tests.support.history.settling import settle
from tests.support.node import Control
from tests.support.ports import free_ports
from tests.support.processes import Process, Processes
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from tests.support.history.mail import Mail
    from tests.support.history.recorder import Recorder

TOKEN: Final = "a-token-for-the-fault-suite"
EVERYTHING: Final = "everything"
"""The queue of a service that gets every event."""
CHANGES: Final = "changes-heard"
"""That of one that gets every change of the list."""
EVERY_NAME: Final = [
    "delivered", "opened", "clicked", "unsubscribed", "complained", "skipped", "soft_bounced", "hard_bounced",
]  # fmt: skip
HISTORY: Final = "history.jsonl"
"""The name of its file: what our own clients have seen, addresses included."""
CLUSTER: Final = 3
_NAMES: Final = Names()
_LOOK_EVERY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cast:
    """How many of each there are."""

    nodes: int = 1
    receivers: int = 1
    workers: int = 1
    spool_disk_bytes: int | None = None
    """A disk of its own for the spool, of this size."""
    spelt_oddly: bool = False
    """Whether hard bounces are written in other ways than the provider's documentation has them."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscribers: dict[str, list[str]] = field(default_factory=dict)
    """Queues of other services beside ours, and the events they are bound to."""
    other_domains: tuple[str, ...] = ()
    """Of whose addresses the case itself changes the list; empty: hashes of addresses."""


class Scene:
    """All parts, running; a case breaks and mends them."""

    def __init__(self, directory: Path, cast: Cast, processes: Processes) -> None:
        self.directory = directory
        self.cast = cast
        self.nodes: list[PrivateNode] = []
        self.proxies: list[Proxy] = []
        self.receivers: list[Process] = []
        self.workers: list[Process] = []
        self.load: Poster
        self.consumer: Consumer
        self.reader: ListReader
        self.simulator: Simulator
        self.ports: list[int] = []
        self.recorder: Recorder
        self._processes = processes

    @property
    def node(self) -> PrivateNode:
        return self.nodes[0]

    @property
    def control(self) -> Control:
        return Control(self.node.environment)

    @property
    def proxy(self) -> Proxy:
        """Between receiver and broker."""
        return self.proxies[0]

    @property
    def spool_directory(self) -> Path:
        return self.directory / "spool"

    @property
    def list_file(self) -> Path:
        return self.directory / "list.sqlite3"

    async def start_receiver(self, number: int = 0) -> None:
        """Start it, or start it again, on its port; it is there when it listens."""
        receiver = await self._processes.start("receiver", overrides=self._settings(self.ports[number]))
        await receiver.says("receiver.started")
        self.receivers[number : number + 1] = [receiver]

    async def start_worker(self, number: int = 0) -> None:
        worker = await self._processes.start("worker", overrides=self._settings(0))
        await worker.says("worker.started")
        self.workers[number : number + 1] = [worker]

    async def settled(self) -> History:
        """The history, once everything is worked off, or after a good while."""
        await settle(self.load.accepted_mails, self.consumer, self.reader, waiting=self._waiting)
        recorder = self.recorder
        recorder.left("dead letters", await waiting_messages(self.node.url, [_NAMES.dead]))
        recorder.left("queue", await self._queued())
        recorder.left("spool", await asyncio.to_thread(self._spooled))
        recorder.flush()
        return History.read(self.history_file)

    @property
    def history_file(self) -> Path:
        return self.directory / HISTORY

    async def _waiting(self) -> list[str]:
        """What is still to be worked off."""
        return [*await self._queued(), *await asyncio.to_thread(self._spooled)]

    async def _queued(self) -> list[str]:
        return await waiting_messages(self.node.url, [_NAMES.suppression])

    def _spooled(self) -> list[str]:
        files = list_files(self.spool_directory)
        return [
            f"{file.path.name}: {file.contents.entries if file.contents else file.problem}"
            for file in files
            if file.contents is None or file.contents.entries
        ]

    @property
    def database(self) -> str:
        return f"sqlite+aiosqlite:///{self.list_file}"

    def _settings(self, port: int) -> dict[str, dict[str, Any]]:
        settings: dict[str, Any] = {
            "rabbitmq": {
                "urls": [proxy.url(node.url) for proxy, node in zip(self.proxies, self.nodes, strict=True)],
            },
            "receiver": {"host": "127.0.0.1", "port": port, "tokens": [TOKEN]},
            "spool": {"directory": str(self.spool_directory), "min_free_bytes": 0},
            "provider": {
                "base_url": self.simulator.base_url,
                "api_token": self.simulator.token,
                "rate": 1000,
            },
            "suppression": {"database_url": self.database},
            "health": {"port": 0},
            "logs": {"format": "json"},
            "subscribers": [
                {"queue": queue, "events": events}
                for queue, events in {EVERYTHING: EVERY_NAME, **self.cast.subscribers}.items()
            ],
        }
        for section, values in self.cast.settings.items():
            settings[section] |= values
        return settings


@asynccontextmanager
async def set_up(directory: Path, cast: Cast, *, rate: float, events: int) -> AsyncIterator[Scene]:
    """Everything is running and the history is written; the load is the caller's to run."""
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes(directory))
        scene = Scene(directory, cast, processes)
        scene.nodes = await stack.enter_async_context(_brokers(directory, cast.nodes))
        scene.proxies = [await stack.enter_async_context(Proxy.serve(node.url)) for node in scene.nodes]
        scene.simulator = await stack.enter_async_context(serve_simulator(messages=KNOWN_MESSAGES))
        if cast.spool_disk_bytes is not None:
            await stack.enter_async_context(_small_disk(scene.spool_directory, cast.spool_disk_bytes))
        scene.ports = free_ports(cast.receivers)  # each receiver is started again on its own
        scene.receivers, scene.workers = [], []
        for number in range(cast.receivers):
            await scene.start_receiver(number)
        for number in range(cast.workers):
            await scene.start_worker(number)
        scene.recorder = recorder = stack.enter_context(History.open(scene.history_file))
        for domain in cast.other_domains:
            recorder.out_of_sight(domain)
        await declare_change_queue(scene.node.url, CHANGES, _NAMES.changes)
        urls = [node.url for node in scene.nodes]
        scene.consumer = Consumer(urls, recorder, events={EVERYTHING: EVERY_NAME}, changes=[CHANGES])
        scene.reader = await stack.enter_async_context(reading_list(scene.database, recorder))
        posted = _to_simulator(scene.simulator, endless_events(spelt_oddly=cast.spelt_oddly))
        scene.load = Poster(scene.ports, WEBHOOK_PATH + TOKEN, posted, recorder, rate=rate, events=events)
        recipients = itertools.cycle(recipients_of(ADDRESSES))
        jobs = [
            asyncio.create_task(scene.consumer.run(), name="consumer"),
            asyncio.create_task(
                scene.reader.run(lambda: next(recipients), every=_LOOK_EVERY_SECONDS), name="reader"
            ),
        ]
        try:
            yield scene
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)


def _to_simulator(simulator: Simulator, mails: Iterator[Mail]) -> Iterator[Mail]:
    """The same, each message known to the provider before its event is posted."""
    for mail in mails:
        simulator.add_message(mail.address or "", int(mail.message))
        yield mail


@asynccontextmanager
async def _brokers(directory: Path, count: int) -> AsyncIterator[list[PrivateNode]]:
    """One node, or a cluster of them, whose names, cookie and port mapper are in common."""
    first = PrivateNode(directory / "rabbit-0")
    nodes = [first] if count == 1 else _cluster(directory, count)
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))
        nodes[0].stop_port_mapper()


def _cluster(directory: Path, count: int) -> list[PrivateNode]:
    folders = [directory / f"rabbit-{number}" for number in range(count)]
    names = [PrivateNode(folder).name for folder in folders]
    peers = "\n".join(
        f"cluster_formation.classic_config.nodes.{number} = {name}" for number, name in enumerate(names, 1)
    )
    config = f"cluster_formation.peer_discovery_backend = classic_config\n{peers}\n"
    first = PrivateNode(folders[0], extra_config=config)
    return [
        first,
        *(
            PrivateNode(folder, extra_config=config, port_mapper=first.port_mapper, home=folders[0])
            for folder in folders[1:]
        ),
    ]


@asynccontextmanager
async def _small_disk(directory: Path, size: int) -> AsyncIterator[None]:
    """A disk of its own for the spool. It takes root, as a container of CI has."""
    await asyncio.to_thread(directory.mkdir)
    await _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield
    finally:
        await _run("umount", "--lazy", str(directory))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{' '.join(command)} failed: the small disk takes root")
