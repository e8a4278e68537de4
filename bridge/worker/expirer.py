"""Takes entries off the list when their time is over, and wakes the relay that publishes these changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.telemetry import logs
from bridge.worker.failures import DATABASE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.dependencies import Dependency

log = logs.logger("worker")

EVERY_SECONDS: Final = 5.0
"""How often it looks for entries that have ended. A check heeds their end by itself, at once."""


class Expirer:
    """Works in the worker that publishes the changes, so that one of several does it."""

    def __init__(
        self, store: Store, *, database: Dependency, on_ended: Callable[[], None], metrics: Metrics
    ) -> None:
        """Make one that does nothing until `run`.

        Args:
            store: the list.
            database: its circuit breaker: while it is open, nothing is done.
            on_ended: called after each transaction that took entries off the list.
            metrics: count them.
        """
        self._store = store
        self._database = database
        self._on_ended = on_ended
        self._metrics = metrics
        for reason in Reason:
            if reason is not Reason.COMPLAINT:  # which never ends
                metrics.list_expired.labels(reason.value)  # from nothing to 1 Prometheus sees no increase

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._store.outbox.holds_lease and self._database.available:
                try:
                    await self.end_all()
                except StoreUnavailableError as error:
                    # The suppressor logs this at a higher level: it cannot work without the database.
                    log.debug("entries cannot be ended now", action="worker.not_expired", error=str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def end_all(self) -> None:
        """Take all entries that have ended off the list, in small transactions.

        Raises:
            StoreError: the list cannot be changed (`StoreUnavailableError` where waiting may help).
        """
        while ended := await self._database.call(
            self._store.expiry.end_some, errors=DATABASE_ERRORS, operation="write"
        ):
            self._on_ended()
            for reason, number in ended.items():
                self._metrics.list_expired.labels(reason.value).inc(number)
            log.info(
                "entries have ended, and were taken off the list",
                action="suppression.expired",
                entries=sum(ended.values()),
            )
