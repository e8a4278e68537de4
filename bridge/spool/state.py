"""How the spool is, for readiness, metrics and people; and what of it the log says."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bridge.spool.spool_file import OVERHEAD, Entry
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from bridge.spool.spool_file import Contents, SpoolFile

log = logs.logger("spool")

_NOT_OPENED: Final = "not opened yet"


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


class Account:
    """Kept with each commit, so that nothing has to be counted to know how the spool is."""

    def __init__(self) -> None:
        self.state = SpoolState(writable=False, reason=_NOT_OPENED, entries=0, bytes=0, oldest=None)
        """Replaced, never changed."""
        self.is_exact = True
        """If not, as when a disk failed just then, the next commit counts what the file holds."""

    def count(self, contents: Contents) -> None:
        self.state = self.state.counted(contents)
        self.is_exact = True

    def committed(
        self, file: SpoolFile, added: Sequence[Entry], removed: Mapping[int, int], *, all_there: bool
    ) -> None:
        """Args: whether all was in the file that was to be removed.

        Raises:
            SpoolError: the disk refuses to be counted.
        """
        was_exact, self.is_exact = self.is_exact and all_there, False
        if was_exact:
            state = self.state.changed(added, removed)
            self.state = replace(state, oldest=file.oldest() if state.entries else None)
        else:
            self.state = self.state.counted(file.contents())
        self.is_exact = True

    def usable(self) -> bool:
        """It takes events; whether it did not before."""
        before = self.state
        if not before.writable and before.reason != _NOT_OPENED:
            log.info("the spool takes events again", action="spool.usable")
        self.state = before.takes_entries()
        return not before.writable

    def unusable(self, reason: str) -> None:
        """There is no file. That is found out again and again."""
        if reason != self.state.reason:
            log.error("the spool cannot be used", action="spool.unusable", reason=reason)
        self.refuse(reason)

    def refuse(self, reason: str) -> None:
        if self.state.writable:
            log.error("the spool refuses events", action="spool.refused", reason=reason)
        self.state = self.state.refuses(reason)
