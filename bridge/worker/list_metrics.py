"""Counts the list's entries and unpublished changes at intervals, for the metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bridge.suppression.errors import StoreError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.dependencies import Dependency

log = logs.logger("worker")

LIST_EVERY_SECONDS: Final = 60.0
OUTBOX_EVERY_SECONDS: Final = 5.0
_MAX_DUTY_CYCLE: Final = 0.01
"""Counting takes at most this share of the time: a list of millions is counted less often."""


class ListMetrics:
    """Counts in the background. A scrape never waits for it, and shows what was counted last."""

    def __init__(self, store: Store, *, database: Dependency, metrics: Metrics) -> None:
        """Make one that does nothing until `run`.

        Args:
            store: the list.
            database: its circuit breaker: while it is open, nothing is counted.
            metrics: show the counts; before the first count there are none.
        """
        self._store = store
        self._database = database
        self._metrics = metrics
        self.counting = False
        """Whether a count is in progress."""
        self.counts = 0
        """How many counts have ended, with or without success."""

    async def run(self) -> None:
        """Count until cancelled."""
        entries_at = outbox_at = 0.0
        while True:
            # One after the other: the suppressor needs the database's connections.
            if time.monotonic() >= outbox_at:
                outbox_at = await self._next(self._count_outbox, OUTBOX_EVERY_SECONDS)
            if time.monotonic() >= entries_at:
                entries_at = await self._next(self._count_entries, LIST_EVERY_SECONDS)
            await asyncio.sleep(min(entries_at, outbox_at) - time.monotonic())

    async def _next(self, count: Callable[[], Awaitable[None]], every: float) -> float:
        """Count, if the database is available. Returns when to count again."""
        began = time.monotonic()
        if self._database.available:
            self.counting = True
            try:
                await count()
            except StoreError as error:
                # The suppressor logs this at a higher level: it cannot work without the database.
                log.debug("the list cannot be counted now", action="worker.not_counted", error=str(error))
            finally:
                self.counting = False
                self.counts += 1
        ended = time.monotonic()
        return ended + max(every, (ended - began) / _MAX_DUTY_CYCLE)

    async def _count_entries(self) -> None:
        for reason, entries in (await self._store.count_by_reason()).items():
            self._metrics.list_entries.labels(reason.value).set(entries)

    async def _count_outbox(self) -> None:
        lag = await self._store.outbox.lag()
        self._metrics.outbox_changes.set(lag.changes)
        self._metrics.outbox_oldest_seconds.set(lag.seconds)
