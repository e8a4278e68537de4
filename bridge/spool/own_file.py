"""Reads and writes this process's spool file, and retries when the disk fails. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.claimed_file import REOPEN_SECONDS, ClaimedFile
from bridge.spool.errors import SpoolCorruptError, SpoolReplacedError
from bridge.spool.folder import SpoolError
from bridge.spool.state import size_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.refused_entries import EntryTask
    from bridge.spool.spool_file import SpoolEntry, SpoolFile

T = TypeVar("T")

log = logs.logger("spool")

_SHRINK_AGAIN_SECONDS: Final = 60.0
_MAX_REPLACEMENTS: Final = 3
"""Attempts to write one event while its file is being replaced."""


class OwnFile(ClaimedFile):
    """Commits, reads and maintenance of the claimed file."""

    def __init__(self, settings: SpoolSettings, *, on_entries_found: Callable[[], object]) -> None:
        """As `ClaimedFile`."""
        super().__init__(settings, on_entries_found=on_entries_found)
        self._shrink_at = 0.0

    def commit(self, added: Sequence[SpoolEntry], removed: Sequence[SpoolEntry]) -> None:
        """Add and remove entries, fsynced when this returns. It is one transaction as long as the disk accepts both.

        A failed removal does not fail the additions, and is retried later. A corrupt file is replaced by a new one, and a
        removed one is copied; neither fails the commit.

        Raises:
            SpoolError: nothing was added.
        """
        self._removals.add({entry.id: size_of(entry) for entry in removed})
        due = self._removals.due()
        if added and due and not self._removals.refusing:
            with suppress(SpoolError):
                self._write(added, due)
                return
        if due:
            self._remove(due)
        if not added:
            return
        try:
            self._write(added, {})
        except SpoolError as refusal:
            self.refuse(str(refusal))
            raise

    def read(self, after: int, limit: int) -> list[SpoolEntry]:
        """The oldest entries with an id above `after`.

        Entries that were confirmed and could not be removed yet are left out: they would be published again and again. If
        the disk is known to refuse removals, nothing is returned.

        Raises:
            SpoolError: the disk fails.
        """
        if self._file is None or self._removals.too_many:
            return []
        try:
            if not self._removals.proven and not self._removals_are_taken(self._file):
                return []
            return self._file.read(after, limit, without=self._removals)
        except SpoolCorruptError as corrupt:
            self._start_new_file(str(corrupt))
        return []

    def do(self, task: EntryTask[T]) -> T:
        """Run a task on the refused entries, in one transaction, fsynced when this returns.

        Raises:
            SpoolError: there is no file, or the disk fails; nothing was changed.
        """
        if self._file is None:
            raise SpoolError(self.state.reason)
        try:
            return self._file.do(task, self._removals)
        except SpoolCorruptError as corrupt:
            self._start_new_file(str(corrupt))
            raise

    def maintain(self, *, at_rest: bool) -> None:
        """Periodic maintenance: is the file still in place, does the disk accept entries and removals again?

        After a failure the spool has to find out by itself: there might be no request that would show it.

        Args:
            at_rest: no job waits, so there is time to shrink a large file.
        """
        if self._file is None:
            self.claim()
            return
        try:
            self._copy_if_replaced(self._file)
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            if not self.state.writable and self._may_retry():
                self._probe()
        if due := self._removals.due():
            self._remove(due)
        if at_rest:
            self._shrink()

    def _write(self, added: Sequence[SpoolEntry], removed: Mapping[int, int]) -> None:
        """One transaction, in the file that is in the folder."""
        for _ in range(_MAX_REPLACEMENTS):
            if self._file is None and not self.claim():
                raise SpoolError(self.state.reason)
            try:
                self._transact(added, removed)
            except SpoolCorruptError as corrupt:
                self._start_new_file(str(corrupt))
                removed = {}
            except SpoolReplacedError as replaced:
                self._tracker.is_exact &= not replaced.committed
                self._replace(str(replaced))
                if replaced.committed:
                    return
            else:
                return
        raise SpoolError(f"{self._settings.directory}: somebody keeps replacing its files")

    def _transact(self, added: Sequence[SpoolEntry], removed: Mapping[int, int]) -> None:
        if self._file is None:
            raise SpoolError(self.state.reason)
        all_there = self._file.write(added, removed) == len(removed)
        if removed:
            self._removals.removed(removed)
        self._tracker.committed(self._file, added, removed, all_there=all_there)
        if added:  # a successful removal does not mean that there is space
            self._is_replaced = False
            self._mark_usable()

    def _remove(self, due: Mapping[int, int]) -> None:
        try:
            self._write((), due)
        except SpoolError as refusal:
            self._removals.refused(str(refusal))
            self._probe()

    def _removals_are_taken(self, file: SpoolFile) -> bool:
        """Check that the disk accepts removals: an earlier process may have published entries that it could not remove."""
        if not self._removals.may_try:
            return False
        try:
            file.probe_removal()
        except SpoolCorruptError:
            raise
        except SpoolError as refusal:
            self._removals.refused(str(refusal))
            self._probe()
            return False
        self._removals.removed()
        return True

    def _probe(self) -> None:
        if self._file is None or self._is_replaced:
            return
        try:
            self._file.probe()
            if not self._tracker.is_exact:
                self._tracker.count(self._file.contents())
        except SpoolCorruptError as corrupt:
            self._start_new_file(str(corrupt))
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            self._mark_usable()

    def _shrink(self) -> None:
        if self._file is None or time.monotonic() < self._shrink_at:
            return
        self._shrink_at = time.monotonic() + REOPEN_SECONDS
        try:
            if self._file.make_smaller():
                log.info("shrank the spool file", action="spool.shrunk", file=str(self._file.path))
        except SpoolError:
            self._shrink_at = time.monotonic() + _SHRINK_AGAIN_SECONDS
