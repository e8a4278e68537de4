"""Clocks that a test sets."""

from __future__ import annotations


class Clock:
    """The time that the test says; the fraction is what everybody forgets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now + 0.9


class StillClock:
    """Stands still unless the test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
