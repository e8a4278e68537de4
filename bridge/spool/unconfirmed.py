"""Which events RabbitMQ does not confirm now: of these one is tried at a time, after pauses, until one is confirmed."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.events import KNOWN_NAMES, MALFORMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bridge.amqp.message_types import Message
    from bridge.spool.entries import SpoolEntry

FIRST_PAUSE_SECONDS: Final = 3.0
"""Longer than the drain waits between two passes, so that the entries of other names have a pass of their own."""
MAX_PAUSE_SECONDS: Final = 10.0
"""The longest pause between two probes, so also how long the drain may take to notice that RabbitMQ confirms again. To it come
the 5 s for which a probe waits for its confirm (`publisher.UNRESPONSIVE_SECONDS`)."""
MAX_LOOKED_AT: Final = 5000
"""While nothing at all is confirmed, names to probe are looked for among so many of the oldest entries."""
_WHOLE_LOOK_SECONDS: Final = 60.0
"""After this time they are looked for among all: it costs 20 s of CPU where a million wait."""

_OTHERS: Final = ""
"""All names that the provider does not document count as one: their number has no limit."""


@dataclass(slots=True)
class _Wait:
    failed: int
    """Attempts in a row after which no confirm came."""
    due: float
    """When the next probe may be sent, by the clock."""


class Unconfirmed:
    """A circuit breaker for each event name. RabbitMQ confirms when all bound queues have the event, so one of them holds up a name.

    The other queues got the event all the same, and get it again with each attempt: so a name is tried with one entry.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self._now = now
        self._waits: dict[str, _Wait] = {}
        self._silent = False
        """Whether nothing was confirmed since the last entry that was not."""
        self._whole_look_at = 0.0
        self.probe_lost = asyncio.Event()
        """Set when a probe was not confirmed: it is not the connection alone."""

    def __bool__(self) -> bool:
        """Whether there is any name of which RabbitMQ confirms nothing."""
        return bool(self._waits)

    @property
    def names(self) -> list[str]:
        """For people; `others` are all that the provider does not document."""
        return sorted(name or "others" for name in self._waits)

    @property
    def held_names(self) -> list[str]:
        """Those of them that `holds` is true of: here confirms are missing for sure."""
        return sorted(name or "others" for name, wait in self._waits.items() if wait.failed > 1)

    @property
    def is_silent(self) -> bool:
        """Whether nothing at all is confirmed, as far as it was tried: then of every name one entry is tried at first."""
        return self._silent

    def most_to_look_at(self) -> float:
        """Entries in one pass."""
        if not self._silent:
            return math.inf
        if self._now() < self._whole_look_at:
            return MAX_LOOKED_AT
        self._whole_look_at = self._now() + _WHOLE_LOOK_SECONDS
        return math.inf

    def holds(self, routing_key: str) -> bool:
        """Whether live events with this key had better go to the spool: a probe on a connection of its own was not confirmed either.

        The first loss alone may be that of the connection.
        """
        wait = self._waits.get(_name(routing_key))
        return wait is not None and wait.failed > 1

    def is_due(self, routing_key: str) -> bool:
        """Whether a message with this key may be tried."""
        wait = self._waits.get(_name(routing_key))
        return wait is None or wait.due <= self._now()

    def choose(
        self, entries: Sequence[SpoolEntry], compose: Callable[[SpoolEntry], Message], probed: set[str]
    ) -> list[SpoolEntry]:
        """Those of these entries to publish now, in their order.

        Args:
            entries: of a source, oldest first.
            compose: makes the message of an entry.
            probed: the names that this pass has tried already; they are added.
        """
        if not self._waits:
            return list(entries)
        chosen = []
        for entry in entries:
            name = _name(compose(entry).routing_key)
            if name in self._waits or self._silent:
                if name in probed or not self.is_due(name):
                    continue
                probed.add(name)
            chosen.append(entry)
        return chosen

    def note(self, *, confirmed: Iterable[str], lost: Iterable[str]) -> bool:
        """Note what came of publishes. Returns whether a name is confirmed again, so that all of its entries may go.

        Args:
            confirmed: their routing keys.
            lost: the routing keys of those whose channel was lost before a confirm.
        """
        good, bad = set(map(_name, confirmed)), set(map(_name, lost))
        recovered = False
        for name in good - bad:
            recovered = self._waits.pop(name, None) is not None or recovered
        now = self._now()
        for name in bad:
            failed = self._waits[name].failed + 1 if name in self._waits else 1
            pause = (
                min(FIRST_PAUSE_SECONDS * 2.0 ** min(failed - 2, 10), MAX_PAUSE_SECONDS)
                if failed > 1
                else 0.0
            )
            self._waits[name] = _Wait(failed, now + pause)
            if failed > 1:
                self.probe_lost.set()
        was_silent = self._silent
        if good or bad:
            self._silent = not good
        return recovered or (was_silent and not self._silent)


def _name(routing_key: str) -> str:
    return routing_key if routing_key in KNOWN_NAMES or routing_key == MALFORMED else _OTHERS
