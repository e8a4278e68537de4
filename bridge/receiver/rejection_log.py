"""Logs events that are answered 503: the first at once, then a line each minute, and the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

log = logs.logger("receiver")

_SUMMARY_EVERY_SECONDS: Final = 60.0
_OVER_AFTER_SECONDS: Final = 10.0
"""After this time without a rejection it is over. A disk that takes one event and fails the next must not fill the log."""


class RejectionLog:
    """Has to be called for each event that is answered 503, and while `active` for each that is accepted."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self.active = False
        """Whether events are rejected, or were a moment ago. If not, `accepted` need not be called."""
        self._now = now
        self._since = self._logged_at = self._last = 0.0
        self._events = self._not_logged = 0

    def rejected(self, why: str) -> None:
        """An event was answered 503. Args: why, for people."""
        self._last = now = self._now()
        if not self.active:
            self.active, self._since, self._events, self._not_logged = True, now, 0, 0
        self._events += 1
        self._not_logged += 1
        if self._not_logged == self._events == 1 or now - self._logged_at >= _SUMMARY_EVERY_SECONDS:
            log.error(
                "events are answered 503: neither RabbitMQ nor the spool can accept them",
                action="receiver.rejecting",
                events=self._not_logged,
                reason=why,
                seconds=round(now - self._since),
            )
            self._logged_at, self._not_logged = now, 0

    def accepted(self) -> None:
        """An event was accepted."""
        now = self._now()
        if self.active and now - self._last >= _OVER_AFTER_SECONDS:
            self.active = False
            log.info(
                "events are accepted again",
                action="receiver.accepting_again",
                rejected=self._events,
                seconds=round(self._last - self._since),
            )
