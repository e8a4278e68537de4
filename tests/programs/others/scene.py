"""What a fault is injected into: RabbitMQ, a proxy before it, one bridge that is kept alive, its provider and its consumer."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from bridge.development.private_node import PrivateNode
from tests.programs.faults.stage import WEBHOOK
from tests.programs.others.arrivals import PROBE, Arrivals
from tests.programs.others.bridges import QUEUE, Place
from tests.programs.others.load import Load
from tests.programs.others.service import Service
from tests.support.disk.mounting import forgetful_disk
from tests.support.node import Control
from tests.support.ports import free_port
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.programs.others.bridges import Bridge
    from tests.support.disk.contents import Rule
    from tests.support.disk.mounting import Disk
    from tests.support.history.recorder import Recorder

_RULES: Final[dict[str, Rule]] = {"rabbit-data": "journal", "bridge-data": "posix"}
"""Folder -> what its disk makes durable: RabbitMQ relies on what ext4 and XFS do beyond POSIX, the bridge does not."""
_START_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Scene:
    """All parts, running; a fault breaks and mends them."""

    bridge: Bridge
    node: PrivateNode
    proxy: Proxy
    """Between the bridge and RabbitMQ."""
    service: Service
    arrivals: Arrivals
    load: Load
    disks: Sequence[Disk]
    """With RabbitMQ's data and the bridge's spool, where the power is to be cut; else none."""

    @property
    def control(self) -> Control:
        return Control(self.node.environment)


@asynccontextmanager
async def set_up(
    bridge: Bridge, directory: Path, recorder: Recorder, *, rate: float, forgetful: bool, seed: int
) -> AsyncIterator[Scene]:
    """The bridge answers 200, and the consumer reads; the load is the caller's to run.

    Args:
        bridge: that is looked at.
        directory: for all that is written.
        recorder: of the history.
        rate: events a second.
        forgetful: whether what has to survive is on a disk that forgets in a power cut.
        seed: of what that disk forgets.

    Raises:
        TimeoutError: the bridge does not answer. The message has the end of what it wrote.
        NodeError: RabbitMQ does not start.
    """
    async with AsyncExitStack() as stack:
        folders = {name: directory / name for name in ("rabbit-data", "bridge-data", "rabbit")}
        for folder in folders.values():
            folder.mkdir()
        disks = [
            await stack.enter_async_context(forgetful_disk(folders[name], seed=seed, rule=rule))
            for name, rule in (_RULES.items() if forgetful else ())
        ]
        (folders["rabbit"] / "data").symlink_to(folders["rabbit-data"])
        node = PrivateNode(folders["rabbit"])
        stack.callback(node.stop_port_mapper)
        stack.push_async_callback(node.stop)
        await node.start()
        proxy = await stack.enter_async_context(Proxy.serve(node.url))
        place = Place(free_port(), proxy.url(node.url), directory, folders["bridge-data"])
        log = directory / "output.log"
        service = await stack.enter_async_context(Service.running(bridge.command(place), log))
        try:
            await _answers(place.port)
        except TimeoutError:
            said = await asyncio.to_thread(log.read_text)
            raise TimeoutError(f"{bridge.name} does not answer 200: {said[-2000:]}") from None
        for disk in disks:
            await asyncio.to_thread(_written_back, disk.path)
        arrivals = Arrivals(node.url, QUEUE, recorder)
        await stack.enter_async_context(arrivals.read())
        load = Load(place.port, WEBHOOK, recorder, rate=rate)
        yield Scene(bridge, node, proxy, service, arrivals, load, disks)


async def _answers(port: int) -> None:
    """Wait until an event is answered 200, from RabbitMQ and not from a spool."""
    deadline = time.monotonic() + _START_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while time.monotonic() < deadline:
            try:
                async with http.post(
                    f"http://127.0.0.1:{port}{WEBHOOK}",
                    data=PROBE,
                    headers={"Content-Type": "application/json"},
                ) as answer:
                    if answer.status == 200 and (await answer.json())["durability"] == "confirmed":
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass  # it does not listen yet
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    raise TimeoutError


def _written_back(folder: Path) -> None:
    """As half a minute after a start: a new installation of RabbitMQ would not start again without what it never fsyncs itself."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in (*files, "."):
            descriptor = os.open(f"{path}/{name}", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
