"""Notices a worker that is up and makes no progress, so that an orchestrator can restart it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.telemetry.metrics import Metrics

log = logs.logger("worker")

_CHECKS_PER_PERIOD: Final = 10
"""In the time after which a part counts as stuck."""
_MAX_CHECK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProgressCheck:
    """A part that must make progress."""

    component: str
    """`consumer`, `deliveries`, `relay`, `list_metrics` or `database`, for the metrics."""
    problem: str
    """What is wrong when it is stuck, for people."""
    due: Callable[[], bool]
    """Whether it has something to do, and waits for nothing."""
    progress: Callable[[], Any]
    """A value that changes with each step."""


@dataclass(slots=True)
class _LastProgress:
    progress: Any
    since: float
    stuck: bool = False


class Watchdog:
    """Checks at intervals whether every part that is due makes progress."""

    def __init__(self, watched: Iterable[ProgressCheck], *, after: float, metrics: Metrics) -> None:
        """Make a watchdog.

        Args:
            watched: the parts that must make progress.
            after: seconds without progress after which a part is stuck.
            metrics: counts the parts that were found stuck.
        """
        self._watched: list[ProgressCheck] = []
        self._after = after
        self._metrics = metrics
        self._seen: dict[str, _LastProgress] = {}
        self.add(watched)

    def add(self, watched: Iterable[ProgressCheck]) -> None:
        """Watch these parts, too."""
        for one in watched:
            self._watched.append(one)
            self._metrics.stuck.labels(one.component)  # Prometheus sees no increase from nothing to 1

    def reason(self) -> str:
        """What is stuck, for `/livez`; empty where nothing is."""
        return "; ".join(
            one.problem for one in self._watched if (seen := self._seen.get(one.component)) and seen.stuck
        )

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            self.check(asyncio.get_running_loop().time())
            await asyncio.sleep(min(self._after / _CHECKS_PER_PERIOD, _MAX_CHECK_SECONDS))

    def check(self, now: float) -> None:
        """Check once. `now` is the time of a monotonic clock, in seconds."""
        for one in self._watched:
            seen, progress = self._seen.get(one.component), one.progress()
            if seen is None or not one.due() or seen.progress != progress:
                if seen is not None and seen.stuck:
                    log.info("progressing again", action="worker.unstuck", component=one.component)
                self._seen[one.component] = _LastProgress(progress, now)
            elif not seen.stuck and now - seen.since >= self._after:
                seen.stuck = True
                self._metrics.stuck.labels(one.component).inc()
                log.error(
                    one.problem,
                    action="worker.stuck",
                    component=one.component,
                    seconds=round(now - seen.since, 1),
                )
