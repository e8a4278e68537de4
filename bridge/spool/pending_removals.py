"""Confirmed entries that still have to be removed from the disk, with backoff while that fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

log = logs.logger("spool")

MAX_PENDING: Final = 10_000
"""When this many wait, nothing more is published: after a restart all of them would be published again."""
FIRST_PAUSE_SECONDS: Final = 1.0
"""After the first failure; doubled after each further one, up to `MAX_PAUSE_SECONDS`."""
MAX_PAUSE_SECONDS: Final = 60.0


class PendingRemovals:
    """Holds ids and sizes only: the entries would fill the memory while the disk fails."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self._now = now
        self._sizes: dict[int, int] = {}
        self._pause = 0.0
        self._retry_at = 0.0
        self.proven = True
        """Whether removals are known to succeed, or there was no reason to check."""

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._sizes

    @property
    def too_many(self) -> bool:
        """Whether `MAX_PENDING` wait, so that nothing more may be published."""
        return len(self._sizes) >= MAX_PENDING

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0

    @property
    def may_try(self) -> bool:
        """Whether an attempt is due."""
        return self._now() >= self._retry_at

    def add(self, sizes: Mapping[int, int]) -> None:
        """Add confirmed entries. Args: id -> size in bytes."""
        self._sizes.update(sizes)

    def due(self) -> dict[int, int]:
        """What to remove now, id -> size; empty during a backoff."""
        return dict(self._sizes) if self.may_try else {}

    def removed(self, ids: Iterable[int] = ()) -> None:
        """Removals succeed, and these entries are removed. Args: their ids."""
        for one in ids:
            self._sizes.pop(one, None)
        self.proven = True
        self.try_now()

    def failed(self, reason: str) -> None:
        """An attempt has failed: back off. Args: why, for the log; only the first failure in a row is logged."""
        if not self.failing:
            log.error(
                "removals from the spool fail: confirmed events stay in the spool, and are not published again",
                action="spool.removals_failed",
                entries=len(self._sizes),
                reason=reason,
            )
        self._pause = min(max(FIRST_PAUSE_SECONDS, self._pause * 2), MAX_PAUSE_SECONDS)
        self._retry_at = self._now() + self._pause

    def try_now(self) -> None:
        """End the backoff: the disk may work again."""
        self._pause = self._retry_at = 0.0

    def clear(self) -> None:
        """Forget all: the file is gone."""
        self._sizes.clear()
        self.try_now()
