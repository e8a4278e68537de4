"""The spool file that this process has claimed. A corrupt one is replaced, a removed one is copied. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge.spool.errors import SpoolUnreadableError
from bridge.spool.folder import SpoolError, make_folder, make_private
from bridge.spool.pending_removals import PendingRemovals
from bridge.spool.replaced_file import replace_file
from bridge.spool.spool_file import SpoolFile
from bridge.spool.state import StateTracker
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.state import SpoolState

log = logs.logger("spool")

REOPEN_SECONDS: Final = 1.0
"""Pause before an unusable folder is tried again."""
_MAX_UNREADABLE: Final = 10
"""Attempts to copy a removed file that cannot be read. After that, what could be read is kept."""


class ClaimedFile:
    """The current spool file, or none while the folder is unusable.

    To be used from one thread at a time; only `state`, `path` and `newest_found` may be read from any.
    """

    def __init__(self, settings: SpoolSettings, *, on_entries_found: Callable[[], object]) -> None:
        """Start without a file.

        Args:
            settings: the folder, and what must stay free on its disk.
            on_entries_found: called when a claimed file already has entries.
        """
        self._settings = settings
        self._on_entries_found = on_entries_found
        self._file: SpoolFile | None = None
        self._tried_at = 0.0
        self._is_replaced = False
        """Whether somebody has removed or replaced the file, and no new one could be claimed yet."""
        self._unreadable_times = 0
        self._made_private = False
        """Whether `make_private` was called: foreign files are to be logged once."""
        self._removals = PendingRemovals()
        self._tracker = StateTracker()
        self.highest_found_id = 0
        """The highest id in the files that were claimed; 0 if there was none."""

    @property
    def state(self) -> SpoolState:
        """The current state."""
        return self._tracker.state

    @property
    def path(self) -> Path | None:
        """Path of the current file; None if there is none."""
        file = self._file
        return file.path if file and not self._is_replaced else None

    def claim(self) -> bool:
        """Claim a file, unless that was tried a moment ago; returns whether it succeeded.

        If not, the state says why.
        """
        if not self._may_retry():
            return False
        directory = self._settings.directory
        try:
            make_folder(directory)
            if not self._made_private:
                make_private(directory)
                self._made_private = True
            self._use(SpoolFile.claim(directory, min_free_bytes=self._settings.min_free_bytes))
        except SpoolError as error:
            self._tracker.unusable(str(error))
        else:
            return True
        return False

    def refuse(self, reason: str) -> None:
        """Set the state to not writable, until a commit or a probe succeeds."""
        self._tracker.refuse(reason)

    def close(self) -> None:
        """Close and unlock the file."""
        if self._file is None:
            return
        with suppress(SpoolError):
            self._copy_if_replaced(self._file)
        if self._is_replaced:
            log.error(
                "a removed spool file cannot be copied: its events are lost",
                action="spool.lost",
                file=str(self._file.path),
                entries=self.state.entries,
            )
        self._file.close()

    def _may_retry(self) -> bool:
        now = time.monotonic()
        if now - self._tried_at < REOPEN_SECONDS:
            return False
        self._tried_at = now
        return True

    def _use(self, file: SpoolFile) -> None:
        try:
            contents = file.contents()
        except SpoolError:
            file.abandon()
            raise
        self._file = file
        self._is_replaced = False
        self._tracker.count(contents)
        self._mark_usable()
        self.highest_found_id = max(self.highest_found_id, contents.newest_id)
        if contents.entries:
            self._removals.proven = False
            self._on_entries_found()

    def _copy_if_replaced(self, file: SpoolFile) -> None:
        """Copy a file that somebody has removed: its contents would be lost with this process."""
        if not file.in_place():
            self._replace(f"{file.path}: somebody has removed it, or mounted over it")
        elif self._is_replaced:  # it is visible again: somebody has unmounted
            self._is_replaced = self._tracker.is_exact = False

    def _replace(self, reason: str) -> None:
        """Continue with a new file, which gets the contents of the removed one.

        Raises:
            SpoolError: that is not possible yet. Until then entries can be drained, but none is accepted.
        """
        if self._file is None or (self._is_replaced and not self._may_retry()):
            raise SpoolError(self.state.reason)
        old, self._is_replaced = self._file, True
        self._tried_at = time.monotonic()
        try:
            new = replace_file(
                old,
                self._settings.directory,
                min_free_bytes=self._settings.min_free_bytes,
                anyway=self._unreadable_times >= _MAX_UNREADABLE,
            )
        except SpoolError as error:
            self._unreadable_times += isinstance(error, SpoolUnreadableError)
            self._tracker.unusable(f"{reason}; its contents cannot be copied: {error}")
            raise SpoolError(self.state.reason) from error
        self._unreadable_times = 0
        self._use(new)

    def _start_new_file(self, reason: str) -> None:
        """Rename the corrupt file, and claim a new one. The log says how many entries there are to recover."""
        if self._file is None:
            return
        file, self._file = self._file, None
        self._is_replaced = False
        self._removals.clear()
        try:
            if not file.rename_corrupt(f"{reason}; it had {self.state.entries} entries"):
                log.error(
                    "a spool file is corrupt, and somebody has removed it: its events are lost",
                    action="spool.lost",
                    file=str(file.path),
                    entries=self.state.entries,
                )
        except SpoolError as error:
            self._tracker.unusable(str(error))
            return
        self._tried_at = 0.0
        self.claim()

    def _mark_usable(self) -> None:
        if self._tracker.usable():
            self._removals.try_now()
