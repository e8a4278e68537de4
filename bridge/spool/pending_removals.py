"""What is in RabbitMQ and is to be removed from the disk: known by its ids, tried later and later where it refuses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

log = logs.logger("spool")

MOST: Final = 10_000
"""With so many nothing more is published: after a restart they would all be published again."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0


class Removals:
    """Ids and sizes alone: the entries would fill the memory while a disk is refusing."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self._now = now
        self._sizes: dict[int, int] = {}
        self._pause = 0.0
        self._retry_at = 0.0
        self.proven = True
        """Whether the disk is known to take removals; it need not be while nothing was ever to be removed."""

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._sizes

    @property
    def too_many(self) -> bool:
        return len(self._sizes) >= MOST

    @property
    def refusing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0

    @property
    def may_try(self) -> bool:
        """Whether it is time for an attempt."""
        return self._now() >= self._retry_at

    def add(self, sizes: Mapping[int, int]) -> None:
        """These are in RabbitMQ. Args: id and bytes of each."""
        self._sizes.update(sizes)

    def due(self) -> dict[int, int]:
        """What to remove now, with its sizes; nothing while the disk is left in peace."""
        return dict(self._sizes) if self.may_try else {}

    def removed(self, ids: Iterable[int] = ()) -> None:
        """The disk takes removals: these are gone."""
        for one in ids:
            self._sizes.pop(one, None)
        self.proven = True
        self.try_now()

    def refused(self, reason: str) -> None:
        """An attempt has failed: the next one later, and the one after it later still."""
        if not self.refusing:
            log.error(
                "the spool's disk takes no removals: what is in RabbitMQ stays, and is not published again",
                action="spool.unremoved",
                entries=len(self._sizes),
                reason=reason,
            )
        self._pause = min(max(FIRST_PAUSE_SECONDS, self._pause * 2), LONGEST_PAUSE_SECONDS)
        self._retry_at = self._now() + self._pause

    def try_now(self) -> None:
        """Something has changed for the better."""
        self._pause = self._retry_at = 0.0

    def clear(self) -> None:
        """The file is gone, and with it what was to be removed from it."""
        self._sizes.clear()
        self.try_now()
