"""What the log says while events are refused: the first at once, then a line each minute, and when it is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

log = logs.logger("receiver")

_SUMMARY_EVERY_SECONDS: Final = 60.0
_OVER_AFTER_SECONDS: Final = 10.0
"""Without a refusal: a disk that takes one event and refuses the next is not over it, and must not fill the log."""


class Refusing:
    """To be told of each event that is answered 503, and of each that is not."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self.lasts = False
        """Whether events are, or were a moment ago, refused; where not, nobody needs to say that one is accepted."""
        self._now = now
        self._since = self._told_at = self._last = 0.0
        self._events = self._untold = 0

    def refused(self, why: str) -> None:
        """An event was answered 503. Args: why, for people."""
        self._last = now = self._now()
        if not self.lasts:
            self.lasts, self._since, self._events, self._untold = True, now, 0, 0
        self._events += 1
        self._untold += 1
        if self._untold == self._events == 1 or now - self._told_at >= _SUMMARY_EVERY_SECONDS:
            log.error(
                "events are answered 503: neither RabbitMQ nor the spool takes them",
                action="receiver.refusing",
                events=self._untold,
                reason=why,
                seconds=round(now - self._since),
            )
            self._told_at, self._untold = now, 0

    def accepted(self) -> None:
        """An event was taken."""
        now = self._now()
        if self.lasts and now - self._last >= _OVER_AFTER_SECONDS:
            self.lasts = False
            log.info(
                "events are accepted again",
                action="receiver.accepting_again",
                refused=self._events,
                seconds=round(self._last - self._since),
            )
