"""Reads and writes this process's spool file, and retries when the disk fails. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.claimed_file import REOPEN_SECONDS, ClaimedFile
from bridge.spool.entries import size_of
from bridge.spool.errors import SpoolCorruptError, SpoolError, SpoolMissingError
from bridge.spool.pending_removals import PendingRemovals
from bridge.spool.state import StateTracker
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.entries import SpoolContents, SpoolEntry
    from bridge.spool.set_aside_entries import EntryTask
    from bridge.spool.spool_file import SpoolFile
    from bridge.spool.state import SpoolState

T = TypeVar("T")

log = logs.logger("spool")

_SHRINK_AGAIN_SECONDS: Final = 60.0
"""Pause after an attempt to shrink the file has failed."""
_MAX_REPLACEMENTS: Final = 3
"""Attempts to write one event while its file is being replaced."""


class OwnFile:
    """Commits, reads and maintenance of the claimed file.

    To be used from one thread at a time; only `state`, `path` and `highest_found_id` may be read from any.
    """

    def __init__(self, settings: SpoolSettings, *, on_entries_found: Callable[[], object]) -> None:
        """Start without a file.

        Args:
            settings: the folder, and what must stay free on its disk.
            on_entries_found: called when a claimed file already has entries.
        """
        self._settings = settings
        self._on_entries_found = on_entries_found
        self._claimed = ClaimedFile(settings)
        self._removals = PendingRemovals()
        self._tracker = StateTracker()
        self._shrink_at = 0.0
        self.highest_found_id = 0
        """The highest id in the files that were claimed; 0 if there was none."""

    @property
    def state(self) -> SpoolState:
        """The state after the last commit."""
        return self._tracker.state

    @property
    def path(self) -> Path | None:
        """Path of the current file; None if there is none in the folder."""
        return self._claimed.path

    def claim(self) -> bool:
        """Claim a file, unless that was tried a moment ago; returns whether it succeeded. If not, the state says why."""
        if not self._claimed.take_retry_turn():
            return False
        try:
            contents = self._claimed.claim()
        except SpoolError as error:
            self._tracker.mark_unusable(str(error))
            return False
        self._claimed_with(contents)
        return True

    def mark_unwritable(self, reason: str) -> None:
        """Set the state to not writable, until a commit or a probe succeeds."""
        self._tracker.mark_unwritable(reason)

    def close(self) -> None:
        """Close and unlock the file."""
        if self._claimed.file is None:
            return
        with suppress(SpoolError):
            self._copy_if_missing(self._claimed.file)
        self._claimed.close(entries=self.state.entries)

    def commit(self, added: Sequence[SpoolEntry], removed: Sequence[SpoolEntry]) -> None:
        """Add and remove entries, fsynced when this returns. It is one transaction as long as the disk accepts both.

        A failed removal does not fail the additions, and is retried later. A corrupt file is replaced by a new one, and a
        removed one is copied; neither fails the commit.

        Raises:
            SpoolError: nothing was added.
        """
        self._removals.add({entry.id: size_of(entry) for entry in removed})
        due = self._removals.due()
        if added and due and not self._removals.failing:
            with suppress(SpoolError):
                self._write(added, due)
                return
        if due:
            self._remove(due)
        if not added:
            return
        try:
            self._write(added, {})
        except SpoolError as error:
            self.mark_unwritable(str(error))
            raise

    def read(self, after: int, limit: int) -> list[SpoolEntry]:
        """The oldest entries with an id above `after`.

        Entries that were confirmed and could not be removed yet are left out: they would be published again and again. If
        removals are known to fail, nothing is returned.

        Raises:
            SpoolError: the disk fails.
        """
        file = self._claimed.file
        if file is None or self._removals.too_many:
            return []
        try:
            if not self._removals.proven and not self._removals_succeed(file):
                return []
            return file.read(after, limit, without=self._removals)
        except SpoolCorruptError as corrupt:
            self._start_new_file(file, str(corrupt))
        return []

    def run_task(self, task: EntryTask[T]) -> T:
        """Run a task on the set-aside entries, in one transaction, fsynced when this returns.

        Raises:
            SpoolError: there is no file, or the disk fails; nothing was changed.
        """
        file = self._claimed.file
        if file is None:
            raise SpoolError(self.state.reason)
        try:
            return file.run_task(task, self._removals)
        except SpoolCorruptError as corrupt:
            self._start_new_file(file, str(corrupt))
            raise

    def maintain(self, *, at_rest: bool) -> None:
        """Periodic maintenance: is the file still in place, does the disk accept entries and removals again?

        After a failure the spool has to find out by itself: there might be no request that would show it.

        Args:
            at_rest: no job waits, so there is time to shrink a large file.
        """
        file = self._claimed.file
        if file is None:
            self.claim()
            return
        try:
            self._copy_if_missing(file)
        except SpoolError as error:
            self.mark_unwritable(str(error))
        else:
            if not self.state.writable and self._claimed.take_retry_turn():
                self._probe()
        if due := self._removals.due():
            self._remove(due)
        if at_rest:
            self._shrink()

    def _claimed_with(self, contents: SpoolContents) -> None:
        """A file was claimed, with these contents."""
        self._tracker.count(contents)
        self._mark_usable()
        self.highest_found_id = max(self.highest_found_id, contents.newest_id)
        if contents.entries:
            self._removals.proven = False
            self._on_entries_found()

    def _copy_if_missing(self, file: SpoolFile) -> None:
        """Copy a file that somebody has removed: its contents would be lost with this process."""
        if not file.in_place():
            self._move_to_new_file(file, f"{file.path}: somebody has removed it, or mounted over it")
        elif self._claimed.is_missing:  # it is visible again: somebody has unmounted
            self._claimed.is_missing = self._tracker.is_exact = False

    def _move_to_new_file(self, file: SpoolFile, reason: str) -> None:
        """Continue with a new file, which gets the contents of the removed one.

        Raises:
            SpoolError: that is not possible yet. Until then entries can be drained, but none is accepted.
        """
        if self._claimed.is_missing and not self._claimed.take_retry_turn():
            raise SpoolError(self.state.reason)
        try:
            new = self._claimed.copy_missing(file)
        except SpoolError as error:
            self._tracker.mark_unusable(f"{reason}; its contents cannot be copied: {error}")
            raise SpoolError(self.state.reason) from error
        self._claimed_with(self._claimed.use(new))

    def _start_new_file(self, file: SpoolFile, reason: str) -> None:
        """Rename the corrupt file, and claim a new one."""
        self._removals.clear()
        try:
            self._claimed.rename_corrupt(file, reason, entries=self.state.entries)
        except SpoolError as error:
            self._tracker.mark_unusable(str(error))
            return
        self._claimed.retry_at_once()
        self.claim()

    def _write(self, added: Sequence[SpoolEntry], removed: Mapping[int, int]) -> None:
        """One transaction, in the file that is in the folder."""
        for _ in range(_MAX_REPLACEMENTS):
            if self._claimed.file is None:
                self.claim()
            file = self._claimed.file
            if file is None:
                raise SpoolError(self.state.reason)
            try:
                self._transact(file, added, removed)
            except SpoolCorruptError as corrupt:
                self._start_new_file(file, str(corrupt))
                removed = {}
            except SpoolMissingError as missing:
                self._tracker.is_exact &= not missing.committed
                self._move_to_new_file(file, str(missing))
                if missing.committed:
                    return
            else:
                return
        raise SpoolError(f"{self._settings.directory}: somebody keeps replacing its files")

    def _transact(self, file: SpoolFile, added: Sequence[SpoolEntry], removed: Mapping[int, int]) -> None:
        all_there = file.write(added, removed) == len(removed)
        if removed:
            self._removals.removed(removed)
        self._tracker.committed(file, added, removed, all_there=all_there)
        if added:  # a successful removal does not mean that there is space
            self._claimed.is_missing = False
            self._mark_usable()

    def _remove(self, due: Mapping[int, int]) -> None:
        try:
            self._write((), due)
        except SpoolError as error:
            self._removals.failed(str(error))
            self._probe()

    def _removals_succeed(self, file: SpoolFile) -> bool:
        """Check that removals succeed: an earlier process may have published entries that it could not remove."""
        if not self._removals.may_try:
            return False
        try:
            file.probe_removal()
        except SpoolCorruptError:
            raise
        except SpoolError as error:
            self._removals.failed(str(error))
            self._probe()
            return False
        self._removals.removed()
        return True

    def _probe(self) -> None:
        file = self._claimed.file
        if file is None or self._claimed.is_missing:
            return
        try:
            file.probe()
            if not self._tracker.is_exact:
                self._tracker.count(file.contents())
        except SpoolCorruptError as corrupt:
            self._start_new_file(file, str(corrupt))
        except SpoolError as error:
            self.mark_unwritable(str(error))
        else:
            self._mark_usable()

    def _mark_usable(self) -> None:
        if self._tracker.mark_writable():
            self._removals.try_now()

    def _shrink(self) -> None:
        file = self._claimed.file
        if file is None or time.monotonic() < self._shrink_at:
            return
        self._shrink_at = time.monotonic() + REOPEN_SECONDS
        try:
            if file.make_smaller():
                log.info("shrank the spool file", action="spool.shrunk", file=str(file.path))
        except SpoolError:
            self._shrink_at = time.monotonic() + _SHRINK_AGAIN_SECONDS
