"""What the charts show: the last quarter of an hour, a point for each look."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.diagnostics.status import Status

SECONDS: Final = 900.0
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """The numbers of one look. What is not there is not known."""

    at: float
    """Unix seconds."""
    events: Mapping[str, float]
    """Name -> events a second."""
    answers: Mapping[str, float]
    """Answer -> requests a second."""
    median: float | None
    """Seconds from an event's timestamp to the list, for half of the events since the last point."""
    most: float | None
    """The same for 95% of them."""
    queues: Mapping[str, int]
    """Queue -> messages that are ready."""
    spooled: int | None
    consumed: Mapping[str, int]
    """Queue of a subscriber -> messages that it has consumed since RabbitMQ began to count."""

    def document(self) -> dict[str, Any]:
        """For the charts, as JSON."""
        return {
            "at": round(self.at, 1),
            "events": _rounded(self.events),
            "answers": _rounded(self.answers),
            "age": {} if self.median is None else _rounded({"half": self.median, "95%": self.most or 0.0}),
            "queues": dict(self.queues) | ({} if self.spooled is None else {"spool": self.spooled}),
        }


class Trends:
    """The points of the last quarter of an hour."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()

    def add(self, point: Point) -> None:
        """The next one."""
        self._points.append(point)
        while self._points[0].at < point.at - SECONDS:
            self._points.popleft()

    @property
    def points(self) -> tuple[Point, ...]:
        """All of them, the oldest first."""
        return tuple(self._points)

    def depth_change(self, queue: str) -> float | None:
        """How many messages a minute a queue has grown by over the last five minutes; None: not known yet."""
        depths = [
            (point.at, point.queues[queue]) for point in self._last(5 * _MINUTE) if queue in point.queues
        ]
        if len(depths) < 2 or depths[-1][0] - depths[0][0] < _MINUTE / 4:  # noqa: PLR2004 -- it takes two
            return None
        (began, first), (ended, last) = depths[0], depths[-1]
        return (last - first) / (ended - began) * _MINUTE

    def consumed_rate(self, queue: str) -> float | None:
        """How many messages a second a subscriber has consumed over the last minute; None: RabbitMQ does not say."""
        counts = [
            (point.at, point.consumed[queue]) for point in self._last(_MINUTE) if queue in point.consumed
        ]
        if len(counts) < 2 or counts[-1][0] <= counts[0][0]:  # noqa: PLR2004 -- it takes two
            return None
        steps = pairwise(counts)
        grown = sum(after - before if after >= before else after for (_, before), (_, after) in steps)
        return grown / (counts[-1][0] - counts[0][0])

    def consumed_at(self, queue: str) -> float | None:
        """When a subscriber was last seen to consume here, in Unix seconds; None: not since we look."""
        points = [point for point in self._points if queue in point.consumed]
        for before, after in reversed(list(pairwise(points))):
            if before.consumed[queue] != after.consumed[queue]:
                return after.at
        return None

    def _last(self, seconds: float) -> Iterator[Point]:
        if self._points:
            since = self._points[-1].at - seconds
            yield from (point for point in self._points if point.at >= since)


def point_of(status: Status, archive: str) -> Point:
    """The point of one look.

    Args:
        status: what was seen.
        archive: the name of the stream, which keeps what came: nothing in it waits.
    """
    spooled = None if status.spool is None else status.spool.entries
    return Point(
        at=status.at,
        events={one.name: one.rate for one in status.events if one.rate is not None},
        answers={one.answer: one.rate for one in status.answers if one.rate is not None},
        median=None if status.age is None else status.age.median,
        most=None if status.age is None else status.age.most,
        queues={
            queue.name: queue.ready
            for queue in status.broker.queues
            if queue.ready is not None and queue.name != archive
        },
        spooled=spooled,
        consumed={one.queue: one.consumed for one in status.subscribers if one.consumed is not None},
    )


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
