"""Deletes what the list no longer needs: in small transactions, with pauses, so that whoever writes does not wait for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bridge.suppression.errors import StoreError
from bridge.suppression.policy import Policy
from bridge.suppression.retention import limits_of, repeats_count_again
from bridge.telemetry import logs
from bridge.worker.failures import DATABASE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.settings.sections import Settings
    from bridge.suppression.hashing import Hashing
    from bridge.suppression.pruning_walks import Position
    from bridge.suppression.retention import Limit, Retention, Step
    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.dependencies import Dependency

log = logs.logger("worker")

ROUND_EVERY_SECONDS: Final = 60.0
COUNT_EVERY_SECONDS: Final = 600.0
_MAX_COUNT_DUTY_CYCLE: Final = 0.01
"""Counting rows takes at most this share of the time."""
_PAUSE_FACTOR: Final = 3.0
"""After a transaction the database is left alone for this many times its duration, so others have most of the time."""
_MIN_PAUSE_SECONDS: Final = 0.01

MAX_LOCK_SECONDS: Final = 0.05
"""Nobody waits longer for one of these transactions."""
_SLOW_SECONDS, _FAST_SECONDS = 0.5 * MAX_LOCK_SECONDS, 0.3 * MAX_LOCK_SECONDS
"""A transaction that took longer is followed by one of half the size; a shorter one by one of twice the size."""
_FIRST_ROWS, _MIN_ROWS, _MAX_ROWS = 100, 10, 10_000


def make_pruner(settings: Settings, store: Store, *, database: Dependency, metrics: Metrics) -> Pruner:
    """The pruner of a worker with these settings."""
    if problem := repeats_count_again(settings.retention, settings.rabbitmq.archive_max_age):
        log.warning(problem, action="retention.repeats_count_again")
    bounces = Policy.of(settings.suppression).soft_bounces
    limits = limits_of(settings.retention, soft_bounce_seconds=bounces.memory)
    return Pruner(store.retention, store.hashing, limits, database=database, metrics=metrics)


class Pruner:
    """Deletes in the background. Of the workers that share a database, one at a time does it: the holder of a lease."""

    def __init__(
        self,
        retention: Retention,
        hashing: Hashing,
        limits: Sequence[Limit],
        *,
        database: Dependency,
        metrics: Metrics,
    ) -> None:
        """Make one that does nothing until `run`.

        Args:
            retention: what can be deleted.
            hashing: says whether the privacy keys are missing.
            limits: how long each is kept.
            database: its circuit breaker: while it is open, nothing is deleted.
            metrics: show how many rows there are, and how many were deleted.
        """
        self._retention = retention
        self._hashing = hashing
        self._limits = limits
        self._database = database
        self._metrics = metrics
        self._rows = {limit.name: _FIRST_ROWS for limit in limits}
        """How many rows the next transaction goes through."""
        self._count_at = 0.0
        for limit in limits:
            metrics.pruned_rows.labels(limit.name)  # from nothing to 1 Prometheus sees no increase

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            if self._database.available:
                try:
                    await self._round()
                except StoreError as error:
                    log.warning(
                        "old rows cannot be deleted now", action="worker.not_pruned", error=str(error)
                    )
            await asyncio.sleep(ROUND_EVERY_SECONDS)

    async def _round(self) -> None:
        """Delete all that is old by now, while the lease is ours."""
        if await self._database.call(self._hashing.lacks_keys, errors=DATABASE_ERRORS):
            log.error(
                "the list has hashes of addresses, and suppression.privacy_keys is empty: events of erased persons are "
                "written with their addresses; set it as for the other roles",
                action="suppression.no_privacy_key",
            )
        if not await self._hold_lease():
            self._metrics.table_rows.clear()  # the other worker shows them
            self._count_at = 0.0
            return
        for limit in self._limits:
            await self._delete_all(limit)
        if time.monotonic() >= self._count_at:
            await self._count()

    async def _delete_all(self, limit: Limit) -> None:
        deleted, behind = 0, None
        while await self._hold_lease():
            rows = self._rows[limit.name]
            step = await self._delete_some(limit, rows, behind)
            deleted, behind = deleted + step.rows, step.behind
            self._rows[limit.name] = next_size(rows, step)
            if not step.more:
                break
            await asyncio.sleep(max(_MIN_PAUSE_SECONDS, _PAUSE_FACTOR * step.seconds))
        if deleted:
            log.info("old rows were deleted", action="worker.pruned", what=limit.name, rows=deleted)

    async def _delete_some(self, limit: Limit, rows: int, behind: Position | None) -> Step:
        step = await self._database.call(
            lambda: self._retention.delete_some(limit, rows, behind),
            errors=DATABASE_ERRORS,
            operation="write",
        )
        self._metrics.pruned_rows.labels(limit.name).inc(step.rows)
        self._metrics.prune_seconds.observe(step.seconds)
        return step

    async def _hold_lease(self) -> bool:
        return await self._database.call(
            self._retention.lease.try_acquire, errors=DATABASE_ERRORS, operation="write"
        )

    async def _count(self) -> None:
        began = time.monotonic()
        rows = await self._database.call(self._retention.count_rows, errors=DATABASE_ERRORS)
        for table, count in rows.items():
            self._metrics.table_rows.labels(table).set(count)
        ended = time.monotonic()
        self._count_at = ended + max(COUNT_EVERY_SECONDS, (ended - began) / _MAX_COUNT_DUTY_CYCLE)


def next_size(rows: int, step: Step) -> int:
    """How many rows the next transaction goes through, after this step with `rows` of them."""
    if step.seconds > _SLOW_SECONDS:
        return max(_MIN_ROWS, rows // 2)
    if step.seconds < _FAST_SECONDS and step.seen == rows:
        return min(_MAX_ROWS, rows * 2)
    return rows
