"""How the spool is, for readiness, metrics and people."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.receiver.spool_file import OVERHEAD, Entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from bridge.receiver.spool_file import Contents


@dataclass(frozen=True, slots=True)
class SpoolState:
    """At one moment."""

    writable: bool
    reason: str
    """Why it is not writable; empty when it is."""
    entries: int
    bytes: int
    oldest: int | None
    """When the oldest entry was received, Unix milliseconds."""

    @property
    def oldest_age(self) -> float:
        """Seconds; 0 when it is empty."""
        return 0.0 if self.oldest is None else max(0.0, time.time() - self.oldest / 1000)

    def counted(self, contents: Contents) -> Self:
        """With what was counted."""
        return replace(self, entries=contents.entries, bytes=contents.bytes, oldest=contents.oldest)

    def changed(self, added: Sequence[Entry], removed: Mapping[int, int]) -> Self:
        """After a commit; who is the oldest now is for somebody else to find out. Args: `removed` has the sizes."""
        return replace(
            self,
            entries=self.entries + len(added) - len(removed),
            bytes=self.bytes + sum(map(size_of, added)) - sum(removed.values()),
        )

    def takes_entries(self) -> Self:
        return replace(self, writable=True, reason="")

    def refuses(self, reason: str) -> Self:
        return replace(self, writable=False, reason=reason)


def size_of(entry: Entry) -> int:
    return len(entry.body) + OVERHEAD
