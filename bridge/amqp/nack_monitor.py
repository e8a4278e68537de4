"""Decides when to replace a channel that is nacked all the time: a new one may not be (rabbitmq-server#12206)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NACKING_SECONDS: Final = 10.0
"""After this time with nothing but nacks for one routing key, the channel is replaced."""
_MAX_PAUSE_SECONDS: Final = 600.0
_MAX_NAMED: Final = 5


class NackMonitor:
    """Called periodically. Each time that a new channel does not help, the pause before the next one doubles."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._pause = MAX_NACKING_SECONDS

    def allow_now(self) -> None:
        """Allow a replacement now: there is reason to believe that it helps."""
        self._next_at = 0.0

    def keys_nacked_too_long(self, nacking: Mapping[str, float], now: float) -> list[str]:
        """Routing keys because of which the channel has to be replaced now; empty: keep the channel.

        Args:
            nacking: routing key -> since when every message with it was nacked.
            now: time by the same clock.
        """
        if now < self._next_at:
            return []
        if not nacking:
            self._pause = MAX_NACKING_SECONDS
        long = [key for key, since in nacking.items() if now - since > MAX_NACKING_SECONDS]
        if long:
            self._next_at = now + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)
        return long[:_MAX_NAMED]
