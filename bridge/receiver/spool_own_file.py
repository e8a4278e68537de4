"""The file that this process has: counted, tried again when the disk refuses, begun anew when it is corrupt. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.receiver.spool_file import OVERHEAD, Contents, Entry, SpoolCorruptError, SpoolFile
from bridge.receiver.spool_folder import SpoolError, set_aside
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bridge.settings import Spool as SpoolSettings

log = logs.logger("spool")

REOPEN_SECONDS: Final = 1.0
"""A folder that cannot be written is tried again, but not for every event."""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How the spool is, for readiness, metrics and people."""

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


class OwnFile:
    """One spool file after another, as the disk allows; at times none.

    To be used from one thread at a time; only `state`, `path` and `newest_found` may be looked at from any.
    """

    def __init__(self, settings: SpoolSettings, *, found: Callable[[], object]) -> None:
        """Have no file yet.

        Args:
            settings: the folder, and what must stay free on its disk.
            found: called when a file that was claimed has entries already.
        """
        self._settings = settings
        self._found = found
        self._file: SpoolFile | None = None
        self._tried_at = 0.0
        self._unremoved: dict[int, Entry] = {}
        self._counted = True
        """Whether the state counts what the file holds; if a disk failed just then, the next commit counts anew."""
        self.state = SpoolState(writable=False, reason="not opened yet", entries=0, bytes=0, oldest=None)
        """Replaced, never changed."""
        self.newest_found = 0
        """The highest id in the files that were claimed; 0 when there was none."""

    @property
    def path(self) -> Path | None:
        """Where the file is that it has now."""
        file = self._file
        return file.path if file else None

    def claim(self) -> bool:
        """Get a file when there is none, unless this was tried a moment ago; whether there is one now.

        The state says why there is none.
        """
        if time.monotonic() - self._tried_at < REOPEN_SECONDS:
            return False
        self._tried_at = time.monotonic()
        try:
            self._settings.directory.mkdir(parents=True, exist_ok=True)
            self._take(
                SpoolFile.claim(self._settings.directory, min_free_bytes=self._settings.min_free_bytes)
            )
        except OSError as error:
            self._unusable(f"{self._settings.directory}: {error.strerror}; spool.directory must be writable")
        except SpoolError as error:
            self._unusable(str(error))
        else:
            return True
        return False

    def commit(self, added: Sequence[Entry], removed: Sequence[Entry]) -> None:
        """Add and remove in one transaction, which is on the disk when this returns.

        Where it is refused, what is to be removed is kept for the next commit. A file that turns out to be corrupt
        is begun anew, and refuses nothing.

        Raises:
            SpoolError: nothing was added.
        """
        self._unremoved.update((entry.id, entry) for entry in removed)
        try:
            self._commit(added)
        except SpoolCorruptError:
            self._commit(added)

    def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        What is in RabbitMQ and could not be removed yet is not shown: it would be published over and over.

        Raises:
            SpoolError: the disk refuses.
        """
        if self._file is None:
            return []
        try:
            while entries := self._file.read(after, limit):
                if left := [entry for entry in entries if entry.id not in self._unremoved]:
                    return left
                after = entries[-1].id
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        return []

    def probe(self) -> None:
        """Learn whether the disk takes entries again; the state says so.

        A spool that refused has to find out by itself: nobody might ask it any more.
        """
        if self._file is None:
            self.claim()
            return
        if time.monotonic() - self._tried_at < REOPEN_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            self._file.probe()
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            with suppress(SpoolError):
                self.commit((), ())

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()

    def _take(self, file: SpoolFile) -> None:
        try:
            contents = self._recount(file)
        except SpoolError:
            file.abandon()
            raise
        self._file = file
        self.newest_found = max(self.newest_found, contents.newest_id)
        if contents.entries:
            self._found()

    def _commit(self, added: Sequence[Entry]) -> None:
        if self._file is None and not self.claim():
            raise SpoolError(self.state.reason)
        removed = list(self._unremoved.values())
        try:
            all_there = self._write(added, removed)
            exact, self._counted = all_there and self._counted, False
            self._account(added, removed, exact=exact)
            self._counted = True
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
            raise
        except SpoolError as refusal:
            self.refuse(str(refusal))
            raise
        self._unremoved.clear()

    def _write(self, added: Sequence[Entry], removed: Sequence[Entry]) -> bool:
        """Whether everything that was to be removed was there."""
        if self._file is None:
            raise SpoolError(self.state.reason)
        return self._file.write(added, [entry.id for entry in removed]) == len(removed)

    def _begin_anew(self, reason: str) -> None:
        """Set the corrupt file aside; the entries in it are for somebody to recover, and are told of as such."""
        if self._file is None:
            return
        path, lost_sight_of = self._file.path, self.state.entries
        self._file.abandon()
        self._file = None
        self._unremoved.clear()
        try:
            set_aside(path, f"{reason}; it held {lost_sight_of} entries")
        except SpoolError as error:
            self._unusable(str(error))
            return
        self._tried_at = 0.0
        self.claim()

    def _unusable(self, reason: str) -> None:
        if reason != self.state.reason:  # it is tried again each second
            log.error("the spool cannot be used", action="spool.unusable", reason=reason)
        self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """From now on it is not writable, until a commit or a probe succeeds."""
        old = self.state
        if old.writable:
            log.error("the spool refuses events", action="spool.refused", reason=reason)
        self.state = SpoolState(
            writable=False, reason=reason, entries=old.entries, bytes=old.bytes, oldest=old.oldest
        )

    def _account(self, added: Sequence[Entry], removed: Sequence[Entry], *, exact: bool) -> None:
        if self._file is None:
            return
        if not self.state.writable:
            log.info("the spool takes events again", action="spool.usable")
        if not exact:
            self._recount(self._file)
            return
        old = self.state
        entries = old.entries + len(added) - len(removed)
        self.state = SpoolState(
            writable=True,
            reason="",
            entries=entries,
            bytes=old.bytes + sum(map(_size, added)) - sum(map(_size, removed)),
            oldest=self._file.oldest() if entries else None,
        )

    def _recount(self, file: SpoolFile) -> Contents:
        contents = file.contents()
        self.state = SpoolState(
            writable=True, reason="", entries=contents.entries, bytes=contents.bytes, oldest=contents.oldest
        )
        return contents


def _size(entry: Entry) -> int:
    return len(entry.body) + OVERHEAD
