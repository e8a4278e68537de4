"""Notices a disk that does not answer: no call to it ends with an error, it just does not return."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bridge.spool.jobs import JobQueue

log = logs.logger("spool")

STALLED_SECONDS: Final = 1.0
"""A disk that does not answer for this time counts as hanging: new events fail at once, and nothing piles up."""


class StallDetector:
    """Compares the start of the oldest unfinished work with the clock. For the event loop, except `busy_since`."""

    def __init__(self, directory: Path, jobs: JobQueue) -> None:
        """Args: the folder, for the texts; the jobs of the thread."""
        self._directory = directory
        self._jobs = jobs
        self.busy_since: float | None = None
        """Since when the thread does its current work, by the monotonic clock; None while it waits. The thread sets it."""
        self._is_logged = False
        self._next_check: asyncio.TimerHandle | None = None

    @property
    def reason(self) -> str | None:
        """A line for people if the disk has not answered for `STALLED_SECONDS`, else None."""
        since = self.busy_since
        if (handed_over := self._jobs.unfinished_since) is not None:
            since = min(handed_over, since or float("inf"))
        if since is None or (seconds := time.monotonic() - since) < STALLED_SECONDS:
            return None
        return f"{self._directory}: the disk has not answered for {seconds:.0f} s"

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Log when the disk stops answering, and when it answers again, also while no job comes."""
        self._check()
        try:
            yield
        finally:
            if self._next_check is not None:
                self._next_check.cancel()

    def _check(self) -> None:
        self._next_check = asyncio.get_running_loop().call_later(STALLED_SECONDS, self._check)
        reason = self.reason
        if reason is not None and not self._is_logged:
            log.error("the spool's disk does not answer", action="spool.stalled", reason=reason)
        elif reason is None and self._is_logged:
            log.info("the spool's disk answers again", action="spool.answering_again")
        self._is_logged = reason is not None
