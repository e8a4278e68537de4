"""Several receivers under one supervisor, from outside: their port, their health, their processes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.wire import ask, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from tests.support.processes import Process, Processes

Overrides = dict[str, dict[str, Any]]

PATIENCE_SECONDS = 90
LOOK_EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class SupervisedReceivers:
    """A supervisor, its receivers, and their common health."""

    supervisor: Process
    port: int
    health_port: int
    http: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(f"http://127.0.0.1:{self.health_port}{path}") as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def becomes(self, status: int, truth: Callable[[dict[str, Any]], bool] = lambda _: True) -> Any:
        """What `/readyz` says of the processes, once it has this status and this is true of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answered, said = await self.get("/readyz")
                if answered == status and truth(said["processes"]):
                    return said["processes"]
                await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def pids(self) -> list[int]:
        """Of the processes, all of them ready."""
        return [said["pid"] for said in (await self.becomes(200)).values()]

    async def reading(self, name: str) -> float:
        """A sample of `/metrics`; 0 when it is not there."""
        _, text = await self.get("/metrics")
        found = [line for line in text.splitlines() if line.rpartition(" ")[0] == name]
        assert len(found) <= 1
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    async def shows(self, name: str, value: float) -> None:
        """When the sample is this. For a gauge that is set at a scrape: a process that is slow to answer is not waited for."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.reading(name) != value:  # noqa: ASYNC110 -- there is no event to await
                await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def accepts(self, *numbers: int) -> set[str]:
        """The ids of events of these messages, each posted on a connection of its own and answered 200."""
        answers = [await ask(self.port, post(body(number))) for number in numbers]
        assert [answer.status_line for answer in answers] == ["HTTP/1.1 200 OK"] * len(numbers)
        return {answer.json["id"] for answer in answers}


@asynccontextmanager
async def started(processes: Processes, overrides: Overrides) -> AsyncIterator[SupervisedReceivers]:
    """Two receivers that listen; they need not have reached RabbitMQ."""
    supervisor = await processes.start("receiver", overrides=overrides)
    port = (await supervisor.says("receiver.started", process=1))["port"]
    assert (await supervisor.says("receiver.started", process=2))["port"] == port
    async with aiohttp.ClientSession() as http:
        yield SupervisedReceivers(supervisor, port, overrides["health"]["port"], http)


@asynccontextmanager
async def connected(processes: Processes, overrides: Overrides) -> AsyncIterator[SupervisedReceivers]:
    async with started(processes, overrides) as receivers:
        await receivers.supervisor.says("broker.connected", process=1)
        await receivers.supervisor.says("broker.connected", process=2)
        yield receivers


def body(number: int) -> bytes:
    return b'{"message": {"id": %d}, "event": {"name": "opened", "timestamp": 1539062173}}' % number


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def folder_of(pids: Iterable[int]) -> Path:
    """Where these processes count."""
    [folder] = {
        Path(line.split()[-1]).parent
        for pid in pids
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if line.endswith(".db")
    }
    return folder
