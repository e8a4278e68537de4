"""The file that this process has: counted, tried again when the disk refuses, begun anew when it is corrupt. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.receiver.spool_errors import SpoolCorruptError, SpoolReplacedError, SpoolUnreadableError
from bridge.receiver.spool_file import SpoolFile
from bridge.receiver.spool_folder import SpoolError
from bridge.receiver.spool_moved import move
from bridge.receiver.spool_removals import Removals
from bridge.receiver.spool_state import SpoolState, size_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bridge.receiver.spool_aside import Task
    from bridge.receiver.spool_file import Entry
    from bridge.settings import Spool as SpoolSettings

T = TypeVar("T")

log = logs.logger("spool")

REOPEN_SECONDS: Final = 1.0
"""A folder that cannot be written is tried again, but not for every event."""
_NOT_OPENED: Final = "not opened yet"
_SHRINK_AGAIN_SECONDS: Final = 60.0
_UNREADABLE_TIMES: Final = 10
"""So often a file that was removed is tried again when it cannot be read; then what could be read is all there is."""
_MOST_REPLACEMENTS: Final = 3
"""While one event is written."""


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
        self._is_replaced = False
        """Whether the file is not the one in the folder, and no other could be had yet."""
        self._unreadable_times = 0
        self._removals = Removals()
        self._shrink_at = 0.0
        self._counted = True
        """Whether the state counts what the file holds; if a disk failed just then, the next commit counts anew."""
        self.state = SpoolState(writable=False, reason=_NOT_OPENED, entries=0, bytes=0, oldest=None)
        """Replaced, never changed."""
        self.newest_found = 0
        """The highest id in the files that were claimed; 0 when there was none."""

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
        """Add and remove, on the disk when this returns: in one transaction, while the disk takes both.

        A removal that is refused costs no event its place, and is tried again later. A file that turns out to be
        corrupt is begun anew, and one that was removed is copied; neither refuses anything.

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

    def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        What is in RabbitMQ and could not be removed yet is not shown: it would be published over and over. Nor is
        anything, while a disk that takes no removals has been seen to take none.

        Raises:
            SpoolError: the disk refuses.
        """
        if self._file is None or self._removals.too_many:
            return []
        try:
            if not self._removals.proven and not self._removals_are_taken(self._file):
                return []
            return self._file.read(after, limit, without=self._removals)
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        return []

    def do(self, task: Task[T]) -> T:
        """Do something with the entries that are set aside, in one transaction, which is on the disk when this returns.

        Raises:
            SpoolError: there is no file, or the disk refuses; nothing was changed.
        """
        if self._file is None:
            raise SpoolError(self.state.reason)
        try:
            return self._file.do(task, self._removals)
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
            raise

    def look_after(self, *, at_rest: bool) -> None:
        """What nobody asks for: whether the file is still the one, whether the disk takes entries and removals again.

        A spool that refused has to find out by itself: nobody might ask it any more.

        Args:
            at_rest: nobody waits, so that there is time to make a large file small.
        """
        if self._file is None:
            self.claim()
            return
        try:
            self._stay_in_the_folder(self._file)
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            if not self.state.writable and self._may_try_again():
                self._probe()
        if due := self._removals.due():
            self._remove(due)
        if at_rest:
            self._shrink()

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
        self.state = self.state.counted(contents)
        self._counted = True
        self._usable()
        self.newest_found = max(self.newest_found, contents.newest_id)
        if contents.entries:
            self._removals.proven = False
            self._found()

    def _write(self, added: Sequence[Entry], removed: Mapping[int, int]) -> None:
        """One transaction, in the file that stands in the folder."""
        for _ in range(_MOST_REPLACEMENTS):
            if self._file is None and not self.claim():
                raise SpoolError(self.state.reason)
            try:
                self._transact(added, removed)
            except SpoolCorruptError as corrupt:
                self._begin_anew(str(corrupt))
                removed = {}
            except SpoolReplacedError as replaced:
                self._counted = self._counted and not replaced.committed
                self._move(str(replaced))
                if replaced.committed:
                    return
            else:
                return
        raise SpoolError(f"{self._settings.directory}: its files are replaced again and again")

    def _transact(self, added: Sequence[Entry], removed: Mapping[int, int]) -> None:
        if self._file is None:
            raise SpoolError(self.state.reason)
        all_there = self._file.write(added, removed) == len(removed)
        exact, self._counted = all_there and self._counted, False
        if added:
            self._is_replaced = False
        if removed:
            self._removals.removed(removed)
        self._account(self._file, added, removed, exact=exact)
        self._counted = True

    def _remove(self, due: Mapping[int, int]) -> None:
        try:
            self._write((), due)
        except SpoolError as refusal:
            self._removals.refused(str(refusal))
            self._probe()

    def _removals_are_taken(self, file: SpoolFile) -> bool:
        """Entries of an earlier process, which may have published them and not been able to remove them."""
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
            if not self._counted:
                self.state = self.state.counted(self._file.contents())
                self._counted = True
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            self._usable()

    def _stay_in_the_folder(self, file: SpoolFile) -> None:
        """A file that somebody has removed holds nothing after this process: what is in it is copied at once."""
        if not file.in_place():
            self._move(f"{file.path}: somebody has removed it, or mounted over it")
        elif self._is_replaced:  # what was mounted over it is gone again
            self._is_replaced = self._counted = False

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
            self._unusable(f"{reason}; what is in it cannot be copied: {error}")
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
            self._unusable(str(error))
            return
        self._tried_at = 0.0
        self.claim()

    def _shrink(self) -> None:
        if self._file is None or time.monotonic() < self._shrink_at:
            return
        self._shrink_at = time.monotonic() + REOPEN_SECONDS
        try:
            if self._file.make_smaller():
                log.info("made the spool file smaller", action="spool.shrunk", file=str(self._file.path))
        except SpoolError:
            self._shrink_at = time.monotonic() + _SHRINK_AGAIN_SECONDS

    def _unusable(self, reason: str) -> None:
        if reason != self.state.reason:  # it is tried again each second
            log.error("the spool cannot be used", action="spool.unusable", reason=reason)
        self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """From now on it is not writable, until a commit or a probe succeeds."""
        if self.state.writable:
            log.error("the spool refuses events", action="spool.refused", reason=reason)
        self.state = self.state.refuses(reason)

    def _usable(self) -> None:
        if not self.state.writable:
            self._removals.try_now()
            if self.state.reason != _NOT_OPENED:
                log.info("the spool takes events again", action="spool.usable")
        self.state = self.state.takes_entries()

    def _account(
        self, file: SpoolFile, added: Sequence[Entry], removed: Mapping[int, int], *, exact: bool
    ) -> None:
        """That something could be removed does not say that there is room."""
        if exact:
            state = self.state.changed(added, removed)
            self.state = replace(state, oldest=file.oldest() if state.entries else None)
        else:
            self.state = self.state.counted(file.contents())
        if added:
            self._usable()
