"""Who answers senders, as processes of their own: our API, and a server that is asked for one address at a time."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from bridge.settings.sources import ENVIRONMENT_PREFIX
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

TOKEN: Final = "a-token-for-the-figures"
_PATIENCE_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 0.05


class Server(ABC):
    """A process that is asked over HTTP."""

    COMMAND: tuple[str, ...]
    READY: str
    """What answers 200 as soon as it runs."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = session

    @classmethod
    @asynccontextmanager
    async def started(cls, database_url: str) -> AsyncIterator[Self]:
        """On this list, until the context ends.

        Raises:
            RuntimeError: it has ended at once.
        """
        port = free_port()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
        } | cls.environment(database_url, port)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *cls.COMMAND,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with aiohttp.ClientSession(headers=headers) as session:
                server = cls(port, session)
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    while not await server._is_ready():
                        if process.returncode is not None:
                            raise RuntimeError(f"{cls.COMMAND} ended with {process.returncode}")
                        await asyncio.sleep(_LOOK_EVERY_SECONDS)
                yield server
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @staticmethod
    @abstractmethod
    def environment(database_url: str, port: int) -> dict[str, str]:
        """Its settings: this list, this port."""

    async def _is_ready(self) -> bool:
        try:
            async with self._session.get(self._url + self.READY) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


class RunningApi(Server):
    """`bridge api`, one process."""

    COMMAND = ("bridge", "api")
    READY = "/v1/suppressions?limit=1"

    @staticmethod
    def environment(database_url: str, port: int) -> dict[str, str]:
        return {
            "BRIDGE_API__PORT": str(port),
            "BRIDGE_API__TOKENS": f"bench:check+read:{TOKEN}",
            "BRIDGE_API__RATE": "1000000",
            "BRIDGE_HEALTH__PORT": "0",
            "BRIDGE_SUPPRESSION__DATABASE_URL": database_url,
            "BRIDGE_LOGS__LEVEL": "error",
        }

    async def check(self, addresses: Sequence[str]) -> float:
        """All in one request. Returns the seconds."""
        began = time.perf_counter()
        results = await self._answer(addresses)
        took = time.perf_counter() - began
        if len(results) != len(addresses):
            raise RuntimeError("the API has not answered for each address")
        return took

    async def one_at_a_time(self, addresses: Sequence[str], *, rate: float) -> list[float]:
        """A request for each, so many a second, open loop. Returns the seconds of each, from when it was due."""
        seconds: list[float] = []
        began = time.perf_counter()

        async def ask(address: str, due: float) -> None:
            await self._answer([address])
            seconds.append(time.perf_counter() - due)

        try:
            async with asyncio.TaskGroup() as group:
                for number, address in enumerate(addresses):
                    due = began + number / rate
                    if (early := due - time.perf_counter()) > 0:
                        await asyncio.sleep(early)
                    group.create_task(ask(address, due))
        except* RuntimeError as failed:
            raise RuntimeError(str(failed.exceptions[0])) from failed
        return seconds[len(seconds) // 10 :]  # the first ones open connections

    async def in_bulk(self, requests: Sequence[Sequence[str]]) -> float:
        """Two clients, each as fast as it is answered. Returns addresses a second."""
        waiting = iter(requests)

        async def client() -> None:
            for addresses in waiting:
                await self._answer(addresses)

        await self._answer(requests[0])
        began = time.perf_counter()
        await asyncio.gather(client(), client())
        return sum(map(len, requests)) / (time.perf_counter() - began)

    async def _answer(self, addresses: Sequence[str]) -> list[Any]:
        async with self._session.post(
            f"{self._url}/v1/suppressions/check", json={"addresses": list(addresses)}
        ) as response:
            if response.status != 200:
                raise RuntimeError(f"the API answered {response.status}: {await response.text()}")
            return list((await response.json())["results"])


class PerAddress(Server):
    """The server of `contenders.per_address`."""

    COMMAND = ("tests.programs.bench.contenders.per_address",)
    READY = "/?address=nobody"

    @staticmethod
    def environment(database_url: str, port: int) -> dict[str, str]:
        return {"DATABASE_URL": database_url, "PORT": str(port)}

    async def check(self, addresses: Sequence[str]) -> float:
        """A request for each, one after the other, on one connection. Returns the seconds."""
        began = time.perf_counter()
        for address in addresses:
            async with self._session.get(self._url, params={"address": address}) as response:
                response.raise_for_status()
                await response.read()
        return time.perf_counter() - began
