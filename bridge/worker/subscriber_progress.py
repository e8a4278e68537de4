"""How far a subscriber is behind, told from looks at its queue: the age of its oldest message, and since when nothing moves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_POINTS: Final = 512
"""At a look each 15 s two hours; beyond them every second one is forgotten, and new ones are kept as seldom, and so on."""
_GAP_SECONDS: Final = 120.0
"""After such a time without a look nothing is known of what happened meanwhile."""


@dataclass(frozen=True, slots=True)
class QueueLook:
    """What one look has seen. None: RabbitMQ did not say."""

    ready: int
    consumers: int
    dead_letters: int
    """Messages in the queue of its dead letters."""
    unacknowledged: int | None = None
    """By the management API, as the next two."""
    published: int | None = None
    """Messages that were ever put into the queue. It begins anew when RabbitMQ forgets its statistics."""
    consumed: int | None = None
    """Messages that were ever acknowledged, or delivered to somebody who acknowledges none."""

    @property
    def depth(self) -> int:
        """What is still to be consumed."""
        return self.ready + (self.unacknowledged or 0)


class _Point(NamedTuple):
    at: float
    published: int
    """Up to then, counted on across RabbitMQ's new beginnings."""


class SubscriberProgress:
    """What several looks at one queue say together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: the time in seconds."""
        self._clock = clock
        self._before: QueueLook | None = None
        self._looked_at = 0.0
        self._moved_at = 0.0
        self._consumed_at: float | None = None
        self._published = 0
        self._points: deque[_Point] = deque()
        self._apart = 0.0
        """Seconds that are to be between two points."""

    def add(self, look: QueueLook) -> None:
        """The next look."""
        now = self._clock()
        before, since = self._before, now - self._looked_at
        if before is None or since > _GAP_SECONDS:
            self._forget_all()
            self._moved_at = now
            before = None
        else:
            if _was_consumed(before, look):
                self._consumed_at = now
            if not look.depth or self._consumed_at == now:
                self._moved_at = now
        self._note_published(before, look)
        self._before, self._looked_at = look, now
        if not look.depth or (look.published is None and look.consumers):
            self._forget_all()  # there is nothing, or it cannot be told how many of them are new
        if not self._points or now - self._points[-1].at >= self._apart:
            self._points.append(_Point(now, self._published))
        self._forget_what_was_consumed(look)

    @property
    def idle_seconds(self) -> float:
        """For how long there has been something to consume, and nothing was consumed: what is dropped or rejected is not."""
        if self._before is None or not self._before.depth:
            return 0.0
        return self._clock() - self._moved_at

    @property
    def since_consumed_seconds(self) -> float | None:
        """How long ago a look has last seen that something was consumed; None: no look has yet."""
        return None if self._consumed_at is None else self._clock() - self._consumed_at

    @property
    def oldest_age_seconds(self) -> float | None:
        """The age of the oldest message, at least, to within the time between two looks; 0: there is none; None: not known.

        The queue is first in, first out. So with `depth` messages in it, the oldest is the one before whose coming
        `published - depth` had come, and the looks say when that was. What came before the first look counts from then on.
        Without the management API it is not known how many have come; where nobody consumes, it is as many as are there.
        """
        if self._before is None:
            return None
        if not self._before.depth:
            return 0.0
        if self._before.published is None and self._before.consumers:
            return None
        return self._clock() - self._points[0].at

    def _note_published(self, before: QueueLook | None, look: QueueLook) -> None:
        if before is None:
            self._published = look.depth
        elif look.published is None or before.published is None:
            self._published += max(0, look.depth - before.depth)
        else:
            grown = look.published - before.published
            self._published += grown if grown >= 0 else look.published

    def _forget_what_was_consumed(self, look: QueueLook) -> None:
        """Keep the last look at which the oldest message had not come yet, and the later ones."""
        gone = self._published - look.depth
        points = self._points
        while len(points) > 1 and points[1].published <= gone:
            points.popleft()
        if len(points) > _MAX_POINTS:
            self._points = deque(list(points)[::2])
            self._apart = (points[-1].at - points[0].at) / len(self._points)

    def _forget_all(self) -> None:
        self._points.clear()
        self._apart = 0.0


def _was_consumed(before: QueueLook, look: QueueLook) -> bool:
    if look.consumed is not None and before.consumed is not None:
        return look.consumed != before.consumed
    to_dead_letters = max(0, look.dead_letters - before.dead_letters)
    return look.depth < before.depth - to_dead_letters
