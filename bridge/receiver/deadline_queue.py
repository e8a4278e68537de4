"""Who waits for something, and is told when it has taken too long: one timer for all of them."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class Waiting(Generic[T]):
    """All wait equally long, so the order in which they came is that of their deadlines."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, seconds: float, overdue: Callable[[T], None]
    ) -> None:
        """Args: whose clock counts; how long to wait; who is told of each that waited in vain."""
        self._loop = loop
        self._seconds = seconds
        self._overdue = overdue
        self._since: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: T) -> None:
        self._since[one] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def remove(self, one: T) -> bool:
        """Whether it was still waiting."""
        return self._since.pop(one, None) is not None

    def _look(self) -> None:
        latest = self._loop.time() - self._seconds
        for one in list(takewhile(lambda one: self._since[one] <= latest, self._since)):
            del self._since[one]
            self._overdue(one)
        oldest = next(iter(self._since.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = self._loop.call_later(oldest - latest, self._look)
