"""Which spool file this process has: one that it has claimed. A corrupt one is replaced, a removed one is copied. Blocking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.spool.claiming import claim_file
from bridge.spool.errors import SpoolError, SpoolUnreadableError
from bridge.spool.folder import make_folder, make_private
from bridge.spool.missing_file import copy_to_new_file
from bridge.telemetry import logs

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.entries import SpoolContents
    from bridge.spool.spool_file import SpoolFile

log = logs.logger("spool")

REOPEN_SECONDS: Final = 1.0
"""Pause before an unusable folder is tried again."""
_MAX_UNREADABLE: Final = 10
"""Attempts to copy a removed file that cannot be read. After that, what could be read is kept."""


class ClaimedFile:
    """The current file, or none while the folder is unusable. Only `path` may be read from any thread."""

    def __init__(self, settings: SpoolSettings) -> None:
        """Start without a file. Args: the folder, and what must stay free on its disk."""
        self._settings = settings
        self.file: SpoolFile | None = None
        """None while there is no file that can be read."""
        self.is_missing = False
        """Whether somebody has removed the file or mounted over it, and no new one could be claimed yet."""
        self._tried_at = 0.0
        self._unreadable_times = 0
        self._made_private = False
        """Whether `make_private` was called: foreign files are to be logged once."""

    @property
    def path(self) -> Path | None:
        """Path of the current file; None if there is none in the folder."""
        file = self.file
        return file.path if file and not self.is_missing else None

    def take_retry_turn(self) -> bool:
        """Whether an attempt is due. If so, the next one is not due for `REOPEN_SECONDS`."""
        now = time.monotonic()
        if now - self._tried_at < REOPEN_SECONDS:
            return False
        self._tried_at = now
        return True

    def retry_at_once(self) -> None:
        """The next attempt is due now."""
        self._tried_at = 0.0

    def claim(self) -> SpoolContents:
        """Claim a file; returns what is in it.

        Raises:
            SpoolError: the folder is unusable, or the file cannot be read.
        """
        directory = self._settings.directory
        make_folder(directory)
        if not self._made_private:
            make_private(directory)
            self._made_private = True
        return self.use(claim_file(directory, min_free_bytes=self._settings.min_free_bytes))

    def use(self, file: SpoolFile) -> SpoolContents:
        """Continue with this file; returns what is in it.

        Raises:
            SpoolError: it cannot be read. It is closed, and the current file stays.
        """
        try:
            contents = file.contents()
        except SpoolError:
            file.abandon()
            raise
        self.file = file
        self.is_missing = False
        return contents

    def copy_missing(self, file: SpoolFile) -> SpoolFile:
        """Copy the current file, which somebody has removed, to a new one in the folder, and close it; returns the new one.

        Raises:
            SpoolError: that is not possible yet; the current file is unchanged.
        """
        self.is_missing = True
        self._tried_at = time.monotonic()
        try:
            new = copy_to_new_file(
                file,
                self._settings.directory,
                min_free_bytes=self._settings.min_free_bytes,
                anyway=self._unreadable_times >= _MAX_UNREADABLE,
            )
        except SpoolUnreadableError:
            self._unreadable_times += 1
            raise
        self._unreadable_times = 0
        return new

    def rename_corrupt(self, file: SpoolFile, reason: str, *, entries: int) -> None:
        """Rename the current file, which is corrupt, and continue without one.

        Args:
            file: the current file.
            reason: for the log.
            entries: how many it had, for the log: this many are to be recovered.

        Raises:
            SpoolError: the folder cannot be written.
        """
        self.file, self.is_missing = None, False
        if not file.rename_corrupt(f"{reason}; it had {entries} entries"):
            log.error(
                "a spool file is corrupt, and somebody has removed it: its events are lost",
                action="spool.lost",
                file=str(file.path),
                entries=entries,
            )

    def close(self, *, entries: int) -> None:
        """Close and unlock the file. Args: how many entries it has, for the log."""
        if self.file is None:
            return
        if self.is_missing:
            log.error(
                "a removed spool file cannot be copied: its events are lost",
                action="spool.lost",
                file=str(self.file.path),
                entries=entries,
            )
        self.file.close()
