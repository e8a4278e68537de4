"""A clock for the list that a test sets."""

from __future__ import annotations


class Clock:
    """The time that the test says; the fraction is what everybody forgets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now + 0.9
