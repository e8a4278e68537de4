"""When a channel that is nacked all the time is to be replaced: another one might not be (rabbitmq-server#12206)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG_SECONDS: Final = 10.0
"""So long nothing but nacks under one routing key."""
_LONGEST_SECONDS: Final = 600.0
_MOST_NAMED: Final = 5


class NackWatch:
    """Asked now and then. Each time that a new channel is of no help, the next one comes later."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._pause = LONG_SECONDS

    def at_once(self) -> None:
        """There is reason to believe that a new channel helps."""
        self._next_at = 0.0

    def nacked_for_long(self, nacking: Mapping[str, float], now: float) -> list[str]:
        """Some of the routing keys for which the channel is to be replaced now.

        Args:
            nacking: routing key -> since when all that went under it was nacked.
            now: by the same clock.
        """
        if now < self._next_at:
            return []
        if not nacking:
            self._pause = LONG_SECONDS
        long = [key for key, since in nacking.items() if now - since > LONG_SECONDS]
        if long:
            self._next_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_SECONDS)
        return long[:_MOST_NAMED]
