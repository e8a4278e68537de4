"""The health of all receiver processes of a supervisor, combined."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Self

    from bridge.supervisor.child import Child
    from bridge.telemetry.multiprocess import SharedMetrics

_TIMEOUT_SECONDS: Final = 1.0
_READY: Final = 200


class CombinedHealth:
    """Asks each process, and combines the answers."""

    def __init__(self, asked: Mapping[Child, aiohttp.ClientSession], metrics: SharedMetrics) -> None:
        """Use `open` instead.

        Args:
            asked: the processes, each with the HTTP session in which it is asked.
            metrics: the summed metrics of the processes.
        """
        self._asked = asked
        self._metrics = metrics

    @classmethod
    @asynccontextmanager
    async def open(cls, children: Sequence[Child], metrics: SharedMetrics) -> AsyncIterator[Self]:
        """The combined health of these processes, for the duration of the context."""
        async with AsyncExitStack() as sessions:
            asked = {child: await sessions.enter_async_context(_session(child)) for child in children}
            yield cls(asked, metrics)

    async def readiness(self) -> Readiness:
        """Ready when every process is: one that is not ready answers its share of the events with 503."""
        answers = await asyncio.gather(*(self._ready(child) for child in self._asked))
        return Readiness(
            ready=all(ready for ready, _ in answers),
            parts={
                "processes": {
                    str(child.number): part for child, (_, part) in zip(self._asked, answers, strict=True)
                }
            },
        )

    async def exposition(self) -> bytes:
        """The summed metrics. Each process is asked first, because some values are set at a scrape."""
        await asyncio.gather(*(self._get(child, "/metrics") for child in self._asked))
        return await asyncio.to_thread(self._metrics.exposition)

    async def _ready(self, child: Child) -> tuple[bool, Mapping[str, Any]]:
        if child.pid is None:
            return False, {"status": "not ready", "reason": "the process is being started"}
        said = await self._get(child, "/readyz")
        if said is None:
            return False, {"status": "not ready", "pid": child.pid, "reason": "the process does not answer"}
        status, body = said
        return status == _READY, {"pid": child.pid, **orjson.loads(body)}

    async def _get(self, child: Child, path: str) -> tuple[int, bytes] | None:
        """Status and body; None if there is no answer."""
        try:
            async with self._asked[child].get(path) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return None


def _session(child: Child) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        "http://receiver",  # any host name: the socket is the address
        connector=aiohttp.UnixConnector(str(child.health_socket), force_close=True),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
    )
