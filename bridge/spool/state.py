"""The state of the spool, for readiness, metrics and people; changes of it are logged."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bridge.spool.entries import size_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from bridge.spool.entries import SpoolContents, SpoolEntry
    from bridge.spool.spool_file import SpoolFile

log = logs.logger("spool")

_NOT_OPENED: Final = "not opened yet"


@dataclass(frozen=True, slots=True)
class SpoolState:
    """A snapshot of the spool of this process."""

    writable: bool
    reason: str
    """Why it is not writable; empty when it is."""
    entries: int
    bytes: int
    oldest: int | None
    """When the oldest entry was received, Unix milliseconds."""

    @property
    def oldest_age(self) -> float:
        """Seconds; 0 if it is empty."""
        return 0.0 if self.oldest is None else max(0.0, time.time() - self.oldest / 1000)

    def counted(self, contents: SpoolContents) -> Self:
        """The same, but with these contents."""
        return replace(self, entries=contents.entries, bytes=contents.bytes, oldest=contents.oldest)

    def changed(self, added: Sequence[SpoolEntry], removed: Mapping[int, int]) -> Self:
        """After a commit, with `oldest` unchanged. Args: the added entries; id -> size of the removed ones."""
        return replace(
            self,
            entries=self.entries + len(added) - len(removed),
            bytes=self.bytes + sum(map(size_of, added)) - sum(removed.values()),
        )

    def as_writable(self) -> Self:
        """The same, but writable."""
        return replace(self, writable=True, reason="")

    def as_unwritable(self, reason: str) -> Self:
        """The same, but not writable. Args: why, for people."""
        return replace(self, writable=False, reason=reason)


class StateTracker:
    """Updates the state with each commit, so that entries need not be counted."""

    def __init__(self) -> None:
        self.state = SpoolState(writable=False, reason=_NOT_OPENED, entries=0, bytes=0, oldest=None)
        """Replaced at each change, never mutated."""
        self.is_exact = True
        """If not, for example after a disk failure, the next commit counts the contents of the file."""

    def count(self, contents: SpoolContents) -> None:
        """Take over what was counted in the file."""
        self.state = self.state.counted(contents)
        self.is_exact = True

    def committed(
        self, file: SpoolFile, added: Sequence[SpoolEntry], removed: Mapping[int, int], *, all_there: bool
    ) -> None:
        """Update after a commit. Args: `all_there`: whether every removed entry was in the file.

        Raises:
            SpoolError: the file cannot be counted.
        """
        was_exact, self.is_exact = self.is_exact and all_there, False
        if was_exact:
            state = self.state.changed(added, removed)
            self.state = replace(state, oldest=file.oldest() if state.entries else None)
        else:
            self.state = self.state.counted(file.contents())
        self.is_exact = True

    def mark_writable(self) -> bool:
        """Set the state to writable; returns whether it was not before."""
        before = self.state
        if not before.writable and before.reason != _NOT_OPENED:
            log.info("the spool accepts events again", action="spool.writable_again")
        self.state = before.as_writable()
        return not before.writable

    def mark_unusable(self, reason: str) -> None:
        """There is no file: neither writable nor to be drained. It may be called repeatedly, and logs a new reason only."""
        if reason != self.state.reason:
            log.error("the spool cannot be used", action="spool.unusable", reason=reason)
        self.mark_unwritable(reason)

    def mark_unwritable(self, reason: str) -> None:
        """Set the state to not writable; logged if it was writable before. Args: why, for people."""
        if self.state.writable:
            log.error("the spool cannot accept events", action="spool.unwritable", reason=reason)
        self.state = self.state.as_unwritable(reason)
