"""When the soft bounces of an address suppress it, and until when. No I/O.

The answer depends on which soft bounces there were, not on the order in which they came.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.suppression.policy import SoftBounceRule


class SoftBounce(NamedTuple):
    """A soft bounce of an address. They are ordered by time, and by id within one second."""

    at: int
    """When it happened, Unix seconds."""
    event_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which soft bounces suppress an address: from the one with which there were enough."""

    first: SoftBounce
    """The oldest that was counted."""
    last: SoftBounce
    """The one that made it enough."""
    count: int
    """How many were counted."""
    ends_at: int
    """Unix seconds."""


def last_episode(
    bounces: Iterable[SoftBounce], rule: SoftBounceRule, *, after: int | None = None
) -> Episode | None:
    """The last time in which these soft bounces suppress their address, which may be over; None if they never did.

    What bounces while the address is suppressed does not count; after the end counting starts anew.

    Args:
        bounces: those of one address, in any order; an event comes once.
        rule: how many it takes within which time, and how long they suppress.
        after: Unix seconds: only what bounced later counts. The last delivery, or removal by a person.
    """
    episode: Episode | None = None
    newest: int | None = None
    earlier = 0
    counted = _Window(rule.window)
    for bounce in sorted(bounces):
        if after is not None and bounce.at <= after:
            continue
        if newest is not None and bounce.at - newest > rule.memory:
            earlier = 0
        newest = bounce.at
        if episode is not None and bounce.at < episode.ends_at:
            continue
        counted.add(bounce)
        if counted.messages >= rule.threshold:
            ends_at = bounce.at + rule.seconds(earlier)
            episode = Episode(counted.oldest, bounce, counted.bounces, ends_at)
            earlier += 1
            counted = _Window(rule.window)
    return episode


class _Window:
    """The soft bounces that are not older than the window when the newest one comes."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._bounces: deque[SoftBounce] = deque()
        self._of_message: Counter[str] = Counter()

    def add(self, bounce: SoftBounce) -> None:
        """One that is not older than those before."""
        self._bounces.append(bounce)
        self._of_message[bounce.message_id] += 1
        while self._bounces[0].at <= bounce.at - self._seconds:
            old = self._bounces.popleft()
            self._of_message[old.message_id] -= 1
            if not self._of_message[old.message_id]:
                del self._of_message[old.message_id]

    @property
    def messages(self) -> int:
        """Of how many different messages they are."""
        return len(self._of_message)

    @property
    def bounces(self) -> int:
        return len(self._bounces)

    @property
    def oldest(self) -> SoftBounce:
        return self._bounces[0]
