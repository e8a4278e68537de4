"""Which file this process has: claimed, begun anew when it is corrupt, copied when somebody removes it. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge.spool.errors import SpoolUnreadableError
from bridge.spool.folder import SpoolError, close_to_others, make
from bridge.spool.pending_removals import Removals
from bridge.spool.replaced_file import move
from bridge.spool.spool_file import SpoolFile
from bridge.spool.state import Account
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.state import SpoolState

log = logs.logger("spool")

REOPEN_SECONDS: Final = 1.0
"""A folder that cannot be written is tried again, but not for every event."""
_UNREADABLE_TIMES: Final = 10
"""So often a file that was removed is tried again when it cannot be read; then what could be read is all there is."""


class HeldFile:
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
        self._is_replaced = False
        """Whether the file is not the one in the folder, and no other could be had yet."""
        self._unreadable_times = 0
        self._closed_to_others = False
        """Whether what stood in the folder was looked at: what is not ours is to be logged once."""
        self._removals = Removals()
        self._account = Account()
        self.newest_found = 0
        """The highest id in the files that were claimed; 0 when there was none."""

    @property
    def state(self) -> SpoolState:
        """How it is now."""
        return self._account.state

    @property
    def path(self) -> Path | None:
        """Where the file is that it has now."""
        file = self._file
        return file.path if file and not self._is_replaced else None

    def claim(self) -> bool:
        """Get a file when there is none, unless this was tried a moment ago; whether there is one now.

        The state says why there is none.
        """
        if not self._may_try_again():
            return False
        directory = self._settings.directory
        try:
            make(directory)
            if not self._closed_to_others:
                close_to_others(directory)
                self._closed_to_others = True
            self._take(SpoolFile.claim(directory, min_free_bytes=self._settings.min_free_bytes))
        except SpoolError as error:
            self._account.unusable(str(error))
        else:
            return True
        return False

    def refuse(self, reason: str) -> None:
        """From now on it is not writable, until a commit or a probe succeeds."""
        self._account.refuse(reason)

    def close(self) -> None:
        """Give the file back."""
        if self._file is None:
            return
        with suppress(SpoolError):
            self._stay_in_the_folder(self._file)
        if self._is_replaced:
            log.error(
                "the spool file that was removed cannot be copied: what is in it is lost",
                action="spool.lost",
                file=str(self._file.path),
                entries=self.state.entries,
            )
        self._file.close()

    def _may_try_again(self) -> bool:
        now = time.monotonic()
        if now - self._tried_at < REOPEN_SECONDS:
            return False
        self._tried_at = now
        return True

    def _take(self, file: SpoolFile) -> None:
        try:
            contents = file.contents()
        except SpoolError:
            file.abandon()
            raise
        self._file = file
        self._is_replaced = False
        self._account.count(contents)
        self._usable()
        self.newest_found = max(self.newest_found, contents.newest_id)
        if contents.entries:
            self._removals.proven = False
            self._found()

    def _stay_in_the_folder(self, file: SpoolFile) -> None:
        """A file that somebody has removed holds nothing after this process: what is in it is copied at once."""
        if not file.in_place():
            self._move(f"{file.path}: somebody has removed it, or mounted over it")
        elif self._is_replaced:  # what was mounted over it is gone again
            self._is_replaced = self._account.is_exact = False

    def _move(self, reason: str) -> None:
        """Go on with another file, which has all that is in the one that was removed.

        Raises:
            SpoolError: there is no other yet. Until there is, entries can be drained, but none is taken.
        """
        if self._file is None or (self._is_replaced and not self._may_try_again()):
            raise SpoolError(self.state.reason)
        old, self._is_replaced = self._file, True
        self._tried_at = time.monotonic()
        try:
            new = move(
                old,
                self._settings.directory,
                min_free_bytes=self._settings.min_free_bytes,
                anyway=self._unreadable_times >= _UNREADABLE_TIMES,
            )
        except SpoolError as error:
            self._unreadable_times += isinstance(error, SpoolUnreadableError)
            self._account.unusable(f"{reason}; what is in it cannot be copied: {error}")
            raise SpoolError(self.state.reason) from error
        self._unreadable_times = 0
        self._take(new)

    def _begin_anew(self, reason: str) -> None:
        """Set the corrupt file aside; the entries in it are for somebody to recover, and are told of as such."""
        if self._file is None:
            return
        file, self._file = self._file, None
        self._is_replaced = False
        self._removals.clear()
        try:
            if not file.set_aside(f"{reason}; it held {self.state.entries} entries"):
                log.error(
                    "a spool file is corrupt, and somebody has removed it: what was in it is lost",
                    action="spool.lost",
                    file=str(file.path),
                    entries=self.state.entries,
                )
        except SpoolError as error:
            self._account.unusable(str(error))
            return
        self._tried_at = 0.0
        self.claim()

    def _usable(self) -> None:
        if self._account.usable():
            self._removals.try_now()
