"""Who posts to a receiver until its power is cut, and remembers what was answered 200."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Final

import aiohttp

from bridge.development.emission import event_body
from tests.conftest import TOKEN
from tests.support.working import AT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.rabbit import Listener

_CLIENTS: Final = 8


class Poster:
    """Posts events, each of a message of its own."""

    def __init__(self, name: str = "hard_bounced") -> None:
        """Args: the name of the events."""
        self._name = name
        self._numbers = count(1)
        self._grew = asyncio.Condition()
        self.answered: dict[str, str] = {}
        """Id of each event that was answered 200 -> its durability."""

    @asynccontextmanager
    async def posting(self, port: int) -> AsyncIterator[None]:
        """Several at once, for as long as the context lasts and the receiver answers."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as clients:
            url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
            tasks = [clients.create_task(self._post(http, url)) for _ in range(_CLIENTS)]
            yield
            for task in tasks:
                task.cancel()

    async def answers(self, more: int) -> None:
        """Wait for so many further answers."""
        wanted = len(self.answered) + more
        async with asyncio.timeout(90), self._grew:
            await self._grew.wait_for(lambda: len(self.answered) >= wanted)

    async def missing_from(self, listener: Listener, patience: float = 20) -> set[str]:
        """The ids that were answered 200 and have not arrived there within so many seconds without any arrival."""
        missing = set(self.answered)
        with suppress(TimeoutError):
            while missing:
                missing.discard((await listener.next(patience)).message_id or "")
        return missing

    async def _post(self, http: aiohttp.ClientSession, url: str) -> None:
        with suppress(aiohttp.ClientError):
            for number in self._numbers:
                async with http.post(url, data=event_body(self._name, number, AT, {})) as answer:
                    if answer.status == 200:
                        told = await answer.json()
                        self.answered[told["id"]] = told["durability"]
                async with self._grew:
                    self._grew.notify_all()
