"""What is done with the file that this process has, and tried again when the disk refuses. Blocking."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.claimed_file import REOPEN_SECONDS, HeldFile
from bridge.spool.errors import SpoolCorruptError, SpoolReplacedError
from bridge.spool.folder import SpoolError
from bridge.spool.state import size_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.refused_entries import Task
    from bridge.spool.spool_file import Entry, SpoolFile

T = TypeVar("T")

log = logs.logger("spool")

_SHRINK_AGAIN_SECONDS: Final = 60.0
_MOST_REPLACEMENTS: Final = 3
"""While one event is written."""


class OwnFile(HeldFile):
    """Commits to it, reads from it, and looks after it."""

    def __init__(self, settings: SpoolSettings, *, found: Callable[[], object]) -> None:
        """As `HeldFile`."""
        super().__init__(settings, found=found)
        self._shrink_at = 0.0

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
                self._account.is_exact &= not replaced.committed
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
        if removed:
            self._removals.removed(removed)
        self._account.committed(self._file, added, removed, all_there=all_there)
        if added:  # that something could be removed does not say that there is room
            self._is_replaced = False
            self._usable()

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
            if not self._account.is_exact:
                self._account.count(self._file.contents())
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        except SpoolError as refusal:
            self.refuse(str(refusal))
        else:
            self._usable()

    def _shrink(self) -> None:
        if self._file is None or time.monotonic() < self._shrink_at:
            return
        self._shrink_at = time.monotonic() + REOPEN_SECONDS
        try:
            if self._file.make_smaller():
                log.info("made the spool file smaller", action="spool.shrunk", file=str(self._file.path))
        except SpoolError:
            self._shrink_at = time.monotonic() + _SHRINK_AGAIN_SECONDS
