"""A queue of items with the same timeout, and one timer for all of them."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class DeadlineQueue(Generic[T]):
    """All items have the same timeout, so they expire in the order in which they were added."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, seconds: float, on_timeout: Callable[[T], None]
    ) -> None:
        """Args: the loop, for its clock; the timeout, in seconds; called with each item that expires."""
        self._loop = loop
        self._seconds = seconds
        self._on_timeout = on_timeout
        self._added_at: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: T) -> None:
        """Add an item, which must be hashable; its time starts now."""
        self._added_at[one] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._expire)

    def remove(self, one: T) -> bool:
        """Remove an item; returns whether it was still in the queue."""
        return self._added_at.pop(one, None) is not None

    def _expire(self) -> None:
        latest = self._loop.time() - self._seconds
        for one in list(takewhile(lambda one: self._added_at[one] <= latest, self._added_at)):
            del self._added_at[one]
            self._on_timeout(one)
        oldest = next(iter(self._added_at.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = self._loop.call_later(oldest - latest, self._expire)
