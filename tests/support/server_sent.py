"""Reads server-sent events as a browser does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.console import ConsoleClient


class Sent(NamedTuple):
    event: str
    data: str


class EventStream:
    """The events of one answer, in order."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> Sent | None:
        """None: the stream has ended."""
        event, data = "message", []
        async for raw in self._answer.content:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif not line and data:
                return Sent(event, "\n".join(data))
        return None

    async def until(self, event: str, part: str = "") -> str:
        """The data of the first event of this name that has this text in it. Fails if the stream ends before."""
        while (sent := await self.next()) is not None:
            if sent.event == event and part in sent.data:
                return sent.data
        raise AssertionError(f"the stream has ended without {event!r} with {part!r}")

    async def end(self) -> None:
        """Read until it ends."""
        while await self.next() is not None:
            pass


@asynccontextmanager
async def event_stream(client: ConsoleClient, path: str) -> AsyncIterator[EventStream]:
    """A viewer of this path below /console, until the context ends."""
    url = URL(client.base + path, encoded=True)
    async with client.session.get(url, timeout=aiohttp.ClientTimeout(total=60)) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        yield EventStream(answer)
