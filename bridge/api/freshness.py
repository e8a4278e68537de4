"""How far the list may be behind: asked for in the background, so that no answer waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bridge.suppression.errors import StoreError
from bridge.telemetry import logs
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logs.logger("api")

EVERY_SECONDS: Final = 1.0


class Freshness:
    """The time to which the list is up to date, as far as it is known; and whether its database answers."""

    def __init__(self) -> None:
        self.as_of: str | None = None
        """RFC 3339; None if it is not known."""
        self.problem = "the list is not open yet"
        """Why the database does not answer; empty while it does."""

    async def refresh(self, read: Callable[[], Awaitable[float | None]]) -> None:
        """Ask the database once. An error is kept and logged, but not raised: answers then have no time.

        Args:
            read: the time in Unix seconds; None: it is not known.
        """
        try:
            seconds = await read()
        except StoreError as error:
            self.failed(error)
            return
        if self.problem:
            log.info("the list answers", action="api.list_answers")
        self.as_of, self.problem = None if seconds is None else rfc3339(int(seconds)), ""

    def failed(self, error: StoreError) -> None:
        """The database does not answer: log it if it is news."""
        if self.problem != str(error):
            log.warning("the list does not answer", action="api.list_failed", reason=str(error))
        self.as_of, self.problem = None, str(error)

    async def run(self, read: Callable[[], Awaitable[float | None]]) -> None:
        """Ask each second, until cancelled."""
        while True:
            await self.refresh(read)
            await asyncio.sleep(EVERY_SECONDS)

    def description(self) -> dict[str, Any]:
        """The state of the database, for `/readyz`."""
        if self.problem:
            return {"state": "down", "reason": self.problem}
        return {"state": "up", "fresh_as_of": self.as_of}
