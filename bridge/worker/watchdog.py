"""Notices a worker that is up and does nothing, so that an orchestrator can start it anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.telemetry.metrics import Metrics

log = logs.logger("worker")

_LOOKS: Final = 10
"""In the time after which something counts as stuck."""
_LONGEST_LOOK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Watched:
    """Something that must get on."""

    what: str
    """`consumer`, `deliveries`, `relay`, `survey` or `database`, for the metrics."""
    told: str
    """What is wrong when it does not, for people."""
    due: Callable[[], bool]
    """Whether it has something to do now, and nothing to wait for."""
    progress: Callable[[], Any]
    """Another value each time it has got on."""


@dataclass(slots=True)
class _Seen:
    progress: Any
    since: float
    stuck: bool = False


class Watch:
    """Looks again and again whether everything that is due gets on."""

    def __init__(self, watched: Iterable[Watched], *, after: float, metrics: Metrics) -> None:
        """Make a watch.

        Args:
            watched: what must get on.
            after: seconds without progress after which something is stuck.
            metrics: counts what was found stuck.
        """
        self._watched: list[Watched] = []
        self._after = after
        self._metrics = metrics
        self._seen: dict[str, _Seen] = {}
        self.add(watched)

    def add(self, watched: Iterable[Watched]) -> None:
        """These must get on, too."""
        for one in watched:
            self._watched.append(one)
            self._metrics.stuck.labels(one.what)  # from nothing to 1 Prometheus sees no increase

    def reason(self) -> str:
        """What is stuck, for `/livez`; empty where nothing is."""
        return "; ".join(
            one.told for one in self._watched if (seen := self._seen.get(one.what)) and seen.stuck
        )

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(min(self._after / _LOOKS, _LONGEST_LOOK_SECONDS))

    def look(self, now: float) -> None:
        """Look once, at this time of a monotonic clock, in seconds."""
        for one in self._watched:
            seen, progress = self._seen.get(one.what), one.progress()
            if seen is None or not one.due() or seen.progress != progress:
                if seen is not None and seen.stuck:
                    log.info("gets on again", action="worker.unstuck", what=one.what)
                self._seen[one.what] = _Seen(progress, now)
            elif not seen.stuck and now - seen.since >= self._after:
                seen.stuck = True
                self._metrics.stuck.labels(one.what).inc()
                log.error(one.told, action="worker.stuck", what=one.what, seconds=round(now - seen.since, 1))
