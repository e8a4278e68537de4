"""The feed of all changes, for services without RabbitMQ: a request may wait for the next one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge.api import fields, pages
from bridge.api.bodies import answer
from bridge.suppression.errors import StoreError
from bridge.tasks import background_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList
    from bridge.suppression.change import Change

MAX_WAIT: Final = 60
"""Seconds for which a request may wait: what stands between client and server often closes after a minute."""
LOOK_EVERY_SECONDS: Final = 0.25
"""How soon a waiting request has a change of another process. All that wait share one query."""


class Feed:
    """Answers requests for changes."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened
        self._waiting: dict[asyncio.Future[None], int] = {}
        """Each request that waits, and the id of the last change that it knows."""
        self._wanted = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look for changes while requests wait for them; for `cleanup_ctx`."""
        async with background_task(self._look(), name="api.changes"):
            yield

    async def close(self, _: web.Application) -> None:
        """No request waits any longer; for `on_shutdown`."""
        self._closed = True
        self._wake(pages.MAX_ID)

    async def changes(self, request: web.Request, _: Caller) -> web.Response:
        """Changes behind one, oldest first. Without any, the answer waits for the next one, if it is asked to."""
        given = fields.query(request, "after", "wait", pages.LIMIT)
        limit = pages.limit(given)
        after = fields.query_number(given, "after", preset=0, least=0, most=pages.MAX_ID)
        wait = fields.query_number(given, "wait", preset=0, least=0, most=MAX_WAIT)
        changes = await self._opened.store.feed(after, limit)
        if not changes and wait:
            changes = await self._later(after, limit, wait)
        return answer(
            {
                "changes": [change.document() for change in changes],
                "next": changes[-1].id if changes else after,
            }
        )

    async def _later(self, after: int, limit: int, wait: int) -> list[Change]:
        if self._closed:
            return []
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = after
        self._wanted.set()
        try:
            async with asyncio.timeout(wait):
                await waiting
        except TimeoutError:
            return []
        finally:
            self._waiting.pop(waiting, None)
        return await self._opened.store.feed(after, limit)

    async def _look(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._waiting:
                self._wanted.clear()
                continue
            try:
                changes = await self._opened.store.feed(min(self._waiting.values()), 1)
            except StoreError:
                self._wake(pages.MAX_ID)  # each then asks the list itself, and gets this error as its answer
            else:
                if changes:
                    self._wake(changes[0].id)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _wake(self, newest: int) -> None:
        for waiting, after in list(self._waiting.items()):
            if after < newest:
                del self._waiting[waiting]
                with suppress(asyncio.InvalidStateError):  # its client has gone at this moment
                    waiting.set_result(None)
