"""The alerts of the stack's own Prometheus: which fire, from when until when."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.programs.stack.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.programs.stack.stack import Stack

FIRES_WITHIN_SECONDS: Final = 120.0
"""From the beginning of a fault."""
CLEARS_WITHIN_SECONDS: Final = 240.0
"""From when all is healthy again."""
_LOOK_EVERY_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_FIRING: Final = "firing"


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that a fault raises."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    """Those that it must have; it may have others."""

    def __str__(self) -> str:
        labels = ", ".join(f"{label}={value}" for label, value in self.labels)
        return f"{self.name} ({labels})" if labels else self.name


@dataclass(slots=True)
class Firing:
    """An alert that has fired."""

    name: str
    labels: Mapping[str, str]
    began: float
    """When it was first seen, in seconds of `time.monotonic`."""
    ended: float | None = None
    """When it was seen no more; None while it fires."""

    def meets(self, expected: Expected) -> bool:
        return self.name == expected.name and set(expected.labels) <= set(self.labels.items())


class Watch:
    """Looks each second at what fires."""

    def __init__(self) -> None:
        self.seen: list[Firing] = []
        """All that has fired, in the order in which it began."""
        self._news = asyncio.Condition()

    async def run(self, stack: Stack) -> None:
        """Look until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(await stack.prometheus(), timeout=timeout) as session:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    self.take(await ask(session, "/api/v1/alerts"), at=time.monotonic())
                async with self._news:
                    self._news.notify_all()
                await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def take(self, answer: Mapping[str, Any], *, at: float) -> None:
        """An answer of Prometheus' `/api/v1/alerts`, and when it came."""
        now = [one["labels"] for one in answer["data"]["alerts"] if one["state"] == _FIRING]
        before = [one for one in self.seen if one.ended is None]
        for gone in before:
            if gone.labels not in now:
                gone.ended = at
        known = [one.labels for one in before]
        self.seen += [Firing(one["alertname"], one, at) for one in now if one not in known]

    def firing(self, expected: Iterable[Expected]) -> list[Expected]:
        """Those of them that fire now."""
        now = [one for one in self.seen if one.ended is None]
        return [one for one in expected if any(firing.meets(one) for firing in now)]

    async def fire(self, expected: Sequence[Expected], *, until: float) -> None:
        """Wait until all of them fire at once, but not beyond this time."""
        await self._until(lambda: len(self.firing(expected)) == len(expected), until)

    async def clear(self, expected: Sequence[Expected], *, until: float) -> None:
        """Wait until none of them fires, but not beyond this time."""
        await self._until(lambda: not self.firing(expected), until)

    async def _until(self, holds: Callable[[], bool], deadline: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()), self._news:
                await self._news.wait_for(holds)


async def ask(session: aiohttp.ClientSession, path: str, **parameters: str) -> Any:
    """What Prometheus answers.

    Raises:
        aiohttp.ClientError: it does not.
    """
    async with session.get(path, params=parameters) as answer:
        answer.raise_for_status()
        return await answer.json()


async def found(stack: Stack, query: str) -> dict[str, float]:
    """A query's value for each job.

    Raises:
        EngineError: Prometheus does not answer.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(await stack.prometheus(), timeout=timeout) as session:
            answer = await ask(session, "/api/v1/query", query=query)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineError(f"Prometheus does not answer: {error}") from None
    return {one["metric"].get("job", ""): float(one["value"][1]) for one in answer["data"]["result"]}
