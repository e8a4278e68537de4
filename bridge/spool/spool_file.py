"""One spool file: an SQLite database in WAL mode, locked by the process that owns it; every commit is fsynced. Blocking."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool import disk_space
from bridge.spool.database import Database
from bridge.spool.entries import SpoolContents, SpoolEntry, size_of
from bridge.spool.entry_traces import EntryTraces, entry_of
from bridge.spool.errors import (
    SpoolError,
    SpoolMissingError,
    as_spool_error,
)
from bridge.spool.folder import (
    acquire_lock,
    check_access,
    database_files,
    holds_lock,
    rename_corrupt,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from bridge.spool.set_aside_entries import EntryTask

T = TypeVar("T")

_PROBE_BYTES: Final = 128 * 1024
"""Free space at which a full disk counts as usable again: the largest event, with its pages twice."""
_IDS: Final = "SELECT id FROM entries WHERE id > ? ORDER BY id"
_ENTRIES: Final = """
    SELECT id, received_at, body, (SELECT trace FROM traces WHERE traces.id = entries.id)
    FROM entries WHERE id > ? ORDER BY id LIMIT ?
"""
_ENTRY: Final = """
    SELECT id, received_at, body, (SELECT trace FROM traces WHERE traces.id = entries.id) FROM entries WHERE id = ?
"""
_OLDEST: Final = "SELECT id, received_at, body FROM entries ORDER BY id LIMIT 1"
CONTENTS: Final = """
    SELECT count(*), coalesce(sum(size), 0), min(received_at), coalesce(max(id), 0) FROM (
        SELECT id, received_at, length(body) + 64 AS size FROM entries
        UNION ALL SELECT id, received_at, length(body) + 64 FROM set_aside
    )
"""
_OLDEST_OF_ALL: Final = """
    SELECT min(received_at) FROM (
        SELECT received_at FROM (SELECT received_at FROM entries ORDER BY id LIMIT 1)
        UNION ALL SELECT received_at FROM (SELECT received_at FROM set_aside ORDER BY id LIMIT 1)
    )
"""


class SpoolFile:
    """The file, its lock, and its statements. To be used from one thread at a time."""

    def __init__(self, path: Path, *, min_free_bytes: int) -> None:
        """Lock and open this file.

        A corrupt file is renamed, never deleted, and a new one is created.

        Raises:
            SpoolLockedError: another process has it.
            SpoolForeignError: another user has it.
            SpoolError: the folder cannot be written.
        """
        self.path = path
        self._min_free_bytes = min_free_bytes
        self._lock = acquire_lock(path)
        try:
            check_access(path)
            with as_spool_error(self.path):
                self.database = Database(path)
                self._traces = EntryTraces(self.database.connection)
        except BaseException:
            os.close(self._lock)
            raise
        self._connection = self.database.connection
        if not self.in_place():
            self.abandon()
            raise SpoolMissingError(path, committed=False)

    def contents(self) -> SpoolContents:
        """How many entries it has, and how large they are.

        Raises:
            SpoolError: the disk fails.
        """
        with as_spool_error(self.path):
            return SpoolContents(*self._connection.execute(CONTENTS).fetchone())

    def write(self, entries: Sequence[SpoolEntry], removed: Iterable[int]) -> int:
        """Add and remove entries in one fsynced transaction; returns how many were removed.

        It checks before and after the commit that the file is still the one in the folder.

        Raises:
            SpoolFullError: there is not enough space; nothing was changed.
            SpoolCorruptError: the file cannot be read.
            SpoolMissingError: it is no longer the file in the folder, or that cannot be checked.
            SpoolError: the disk fails; nothing was changed.
        """
        added = [(entry.id, entry.received_at, entry.body) for entry in entries]
        if added:
            self.check_in_place()
            self._check_free_space(self._min_free_bytes, 2 * sum(map(size_of, entries)))
        with as_spool_error(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", added)
            self._traces.add(entries)
            ids = [(one,) for one in removed]
            deleted = self._connection.executemany("DELETE FROM entries WHERE id = ?", ids).rowcount
            if deleted < len(ids):
                deleted += self._connection.executemany("DELETE FROM set_aside WHERE id = ?", ids).rowcount
            self._traces.remove(ids)
        if added and not self._is_known_in_place():
            raise SpoolMissingError(self.path, committed=True)
        return max(0, deleted)

    def run_task(self, task: EntryTask[T], removed: Container[int] = ()) -> T:
        """Run a task on the set-aside entries, in one transaction.

        Raises:
            SpoolError: the disk fails; nothing was changed.
        """
        with as_spool_error(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return task(self._connection, removed)

    def probe(self) -> None:
        """Make a write that changes nothing, to check whether a disk that failed accepts entries again.

        Raises:
            SpoolFullError: there is still not enough space.
            SpoolCorruptError: the file cannot be read.
            SpoolMissingError: it is no longer the file in the folder.
            SpoolError: the disk still fails.
        """
        self.check_in_place()
        self._check_free_space(max(self._min_free_bytes, _PROBE_BYTES), _PROBE_BYTES)
        with as_spool_error(self.path):
            self._connection.execute("PRAGMA user_version = 0")

    def probe_removal(self) -> None:
        """Remove the oldest entry and insert it again, in one transaction, to check whether the disk accepts removals.

        Raises:
            SpoolCorruptError: the file cannot be read.
            SpoolError: it does not.
        """
        with as_spool_error(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            oldest = self._connection.execute(_OLDEST).fetchone()
            if oldest:
                self._connection.execute("DELETE FROM entries WHERE id = ?", oldest[:1])
                self._connection.execute("INSERT INTO entries VALUES (?, ?, ?)", oldest)

    def in_place(self) -> bool:
        """Whether database and lock are still the files in the folder.

        Raises:
            SpoolError: the folder cannot be read.
        """
        with as_spool_error(self.path):
            return self.database.in_place() and holds_lock(self._lock, self.path)

    def read(self, after: int, limit: int, *, without: Container[int] = ()) -> list[SpoolEntry]:
        """The oldest entries with an id above `after`, except those in `without`.

        Raises:
            SpoolError: the disk fails.
        """
        with as_spool_error(self.path):
            if not without:
                return list(map(entry_of, self._connection.execute(_ENTRIES, (after, limit)).fetchall()))
            return self._read_without(after, limit, without)

    def _read_without(self, after: int, limit: int, without: Container[int]) -> list[SpoolEntry]:
        with closing(self._connection.execute(_IDS, (after,))) as ids:
            chosen = list(islice((one for (one,) in ids if one not in without), limit))
            rows = (self._connection.execute(_ENTRY, (one,)).fetchone() for one in chosen)
            return [entry_of(row) for row in rows if row]

    def make_smaller(self) -> bool:
        """Shrink the file if it is large and nearly empty; returns whether it was.

        Raises:
            SpoolError: that is not possible now.
        """
        with as_spool_error(self.path):
            return disk_space.shrink_if_too_large(self._connection, self.path)

    def oldest(self) -> int | None:
        """When the oldest entry was received, Unix milliseconds.

        Raises:
            SpoolError: the disk fails.
        """
        with as_spool_error(self.path):
            row = self._connection.execute(_OLDEST_OF_ALL).fetchone()
        return None if row[0] is None else int(row[0])

    def rename_corrupt(self, reason: str) -> bool:
        """Rename a corrupt file, and close it. If somebody has replaced it, the replacement is left alone.

        Returns whether it was renamed.

        Raises:
            SpoolError: the folder cannot be written; the file is closed all the same.
        """
        try:
            in_place = self._is_known_in_place()
            self.database.disconnect()
            if in_place:
                rename_corrupt(self.path, reason)
            return in_place
        finally:
            os.close(self._lock)

    def abandon(self) -> None:
        """Close and unlock a file that is broken, or no longer the one in the folder, without touching the folder."""
        self.database.disconnect()
        os.close(self._lock)

    def close(self, *, delete: bool = False) -> None:
        """Close and unlock the file; `delete` also removes it, which is meant for empty orphans.

        Raises:
            SpoolError: it cannot be deleted; it is closed all the same.
        """
        try:
            if not self._is_known_in_place():
                self.database.disconnect()
                return
            self.database.close()
            if delete:
                for part in database_files(self.path):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"{self.path}: it cannot be removed: {error.strerror}") from error
        finally:
            os.close(self._lock)

    def _is_known_in_place(self) -> bool:
        try:
            return self.in_place()
        except SpoolError:
            return False

    def check_in_place(self) -> None:
        """Check that it is still the file in the folder: SQLite keeps writing to a removed file, whose data is lost.

        Raises:
            SpoolMissingError: it is not.
            SpoolError: the folder cannot be read.
        """
        if not self.in_place():
            raise SpoolMissingError(self.path, committed=False)

    def _check_free_space(self, least: int, needed: int) -> None:
        with as_spool_error(self.path):
            disk_space.check_free(self._connection, self.path, least=least, needed=needed)
