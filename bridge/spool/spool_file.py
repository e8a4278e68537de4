"""One spool file: SQLite in WAL mode, every commit fsynced, locked by the process that owns it. Blocking."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeVar

from bridge.spool import disk_space, refused_entries
from bridge.spool.database import Database
from bridge.spool.errors import SpoolFullError, SpoolReplacedError, explaining
from bridge.spool.folder import (
    MOST_FILES,
    SpoolError,
    SpoolForeignError,
    SpoolLockedError,
    candidates,
    holds,
    lock,
    must_be_ours,
    parts,
    set_aside,
)
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from bridge.spool.refused_entries import Task

T = TypeVar("T")

log = logs.logger("spool")

OVERHEAD: Final = 64
"""Bytes that an entry takes beside its body: row, page and index shares, rounded up."""

_PROBE_BYTES: Final = 128 * 1024
"""What must be free for a disk that was full to count as usable again: the largest event, and its pages twice."""
_IDS: Final = "SELECT id FROM entries WHERE id > ? ORDER BY id"
_ENTRIES: Final = "SELECT id, received_at, body FROM entries WHERE id > ? ORDER BY id LIMIT ?"
_ENTRY: Final = "SELECT id, received_at, body FROM entries WHERE id = ?"
_OLDEST: Final = "SELECT id, received_at, body FROM entries ORDER BY id LIMIT 1"
_CONTENTS: Final = """
    SELECT count(*), coalesce(sum(size), 0), min(received_at), coalesce(max(id), 0) FROM (
        SELECT id, received_at, length(body) + 64 AS size FROM entries
        UNION ALL SELECT id, received_at, length(body) + 64 FROM set_aside
    )
"""
_CONTENTS_BEFORE: Final = """
    SELECT count(*), coalesce(sum(length(body) + 64), 0), min(received_at), coalesce(max(id), 0) FROM entries
"""
"""Of a file that no receiver of this release has opened yet."""
_OLDEST_OF_ALL: Final = """
    SELECT min(received_at) FROM (
        SELECT received_at FROM (SELECT received_at FROM entries ORDER BY id LIMIT 1)
        UNION ALL SELECT received_at FROM (SELECT received_at FROM set_aside ORDER BY id LIMIT 1)
    )
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that is fsynced here and not yet known to be in RabbitMQ."""

    id: int
    """Ascending in the order of arrival."""
    received_at: int
    """Unix milliseconds."""
    body: bytes
    """The provider's bytes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How full a file is."""

    entries: int
    bytes: int
    oldest: int | None
    """When the oldest entry was received, Unix milliseconds."""
    newest_id: int
    """0 when it is empty."""


class SpoolFile:
    """The file, its lock, and the statements on it. To be used from one thread at a time."""

    def __init__(self, path: Path, *, min_free_bytes: int) -> None:
        """Lock this file and open it.

        A file that is corrupt is set aside under another name, never deleted, and a new one is begun.

        Raises:
            SpoolLockedError: another process has it.
            SpoolForeignError: another user has.
            SpoolError: the folder cannot be written.
        """
        self.path = path
        self._min_free_bytes = min_free_bytes
        self._lock = lock(path)
        try:
            must_be_ours(path)
            with explaining(self.path):
                self.database = Database(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._connection = self.database.connection
        if not self.in_place():
            self.abandon()
            raise SpoolReplacedError(path, committed=False)

    @classmethod
    def claim(cls, directory: Path, *, min_free_bytes: int, fresh: bool = False) -> Self:
        """The first file of this folder that no other process has.

        Args:
            directory: the folder; it is there.
            min_free_bytes: what must stay free on its disk.
            fresh: only one that is not there yet.

        Raises:
            SpoolError: the folder cannot be written.
        """
        foreign: list[str] = []
        for path in candidates(directory):
            if fresh and any(part.exists() for part in parts(path)):
                continue
            try:
                file = cls(path, min_free_bytes=min_free_bytes)
            except SpoolForeignError as error:
                foreign.append(str(error))
            except SpoolLockedError:
                pass
            else:
                if foreign:
                    log.warning(
                        "passed over spool files of another user: whoever may open them has to drain them",
                        action="spool.foreign",
                        files=foreign,
                    )
                return file
        raise SpoolError(
            f"{directory}: all of {MOST_FILES} spool files are in use by other processes, or another user's"
        )

    def contents(self) -> Contents:
        """How full it is.

        Raises:
            SpoolError: the disk refuses.
        """
        with explaining(self.path):
            return Contents(*self._connection.execute(_CONTENTS).fetchone())

    def write(self, entries: Sequence[Entry], removed: Iterable[int]) -> int:
        """Add and remove in one transaction, which is on the disk when this returns how many were removed.

        What was added is in the file that stands in the folder: before the commit, and after it.

        Raises:
            SpoolFullError: no room; nothing was changed.
            SpoolCorruptError: the file cannot be read.
            SpoolReplacedError: it is not the one that stands in the folder any more, or nobody can tell.
            SpoolError: the disk refuses; nothing was changed.
        """
        added = [(entry.id, entry.received_at, entry.body) for entry in entries]
        if added:
            self.be_in_place()
            self._leave_room(self._min_free_bytes, 2 * sum(OVERHEAD + len(body) for _, _, body in added))
        with explaining(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", added)
            ids = [(one,) for one in removed]
            gone = self._connection.executemany("DELETE FROM entries WHERE id = ?", ids).rowcount
            if gone < len(ids):
                gone += self._connection.executemany("DELETE FROM set_aside WHERE id = ?", ids).rowcount
        if added and not self._surely_in_place():
            raise SpoolReplacedError(self.path, committed=True)
        return max(0, gone)

    def do(self, task: Task[T], removed: Container[int] = ()) -> T:
        """Do something with the entries that are set aside, in one transaction.

        Raises:
            SpoolError: the disk refuses; nothing was changed.
        """
        with explaining(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return task(self._connection, removed)

    def probe(self) -> None:
        """Write a little that changes nothing, to learn whether a disk that refused takes entries again.

        Raises:
            SpoolFullError: there is still no room.
            SpoolCorruptError: the file cannot be read.
            SpoolReplacedError: it is not the one that stands in the folder any more.
            SpoolError: the disk still refuses.
        """
        self.be_in_place()
        self._leave_room(max(self._min_free_bytes, _PROBE_BYTES), _PROBE_BYTES)
        with explaining(self.path):
            self._connection.execute("PRAGMA user_version = 0")

    def probe_removal(self) -> None:
        """Remove the oldest entry and put it back, in one transaction, to learn whether removals are taken.

        Raises:
            SpoolCorruptError: the file cannot be read.
            SpoolError: they are refused.
        """
        with explaining(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            oldest = self._connection.execute(_OLDEST).fetchone()
            if oldest:
                self._connection.execute("DELETE FROM entries WHERE id = ?", oldest[:1])
                self._connection.execute("INSERT INTO entries VALUES (?, ?, ?)", oldest)

    def in_place(self) -> bool:
        """Whether it is the file that stands in the folder, under the lock that stands there.

        Raises:
            SpoolError: the folder cannot be read.
        """
        with explaining(self.path):
            return self.database.in_place() and holds(self._lock, self.path)

    def read(self, after: int, limit: int, *, without: Container[int] = ()) -> list[Entry]:
        """The oldest entries with an id above `after`, but for some.

        Raises:
            SpoolError: the disk refuses.
        """
        with explaining(self.path):
            if not without:
                return [Entry(*row) for row in self._connection.execute(_ENTRIES, (after, limit)).fetchall()]
            return self._read_without(after, limit, without)

    def _read_without(self, after: int, limit: int, without: Container[int]) -> list[Entry]:
        with closing(self._connection.execute(_IDS, (after,))) as ids:
            chosen = list(islice((one for (one,) in ids if one not in without), limit))
            rows = (self._connection.execute(_ENTRY, (one,)).fetchone() for one in chosen)
            return [Entry(*row) for row in rows if row]

    def make_smaller(self) -> bool:
        """Give the disk back what a large file does not need any more; whether there was such.

        Raises:
            SpoolError: it cannot be done now.
        """
        with explaining(self.path):
            if not disk_space.is_too_large(self._connection, self.path):
                return False
            disk_space.shrink(self._connection)
        return True

    def oldest(self) -> int | None:
        """When the oldest entry was received, Unix milliseconds.

        Raises:
            SpoolError: the disk refuses.
        """
        with explaining(self.path):
            row = self._connection.execute(_OLDEST_OF_ALL).fetchone()
        return None if row[0] is None else int(row[0])

    def set_aside(self, reason: str) -> bool:
        """Rename a corrupt file and let go of it; one that somebody has put in its place stays where it is.

        Returns whether it was there to be renamed.

        Raises:
            SpoolError: the folder cannot be written; it is let go of all the same.
        """
        try:
            mine = self._surely_in_place()
            self.database.disconnect()
            if mine:
                set_aside(self.path, reason)
            return mine
        finally:
            os.close(self._lock)

    def abandon(self) -> None:
        """Let go of a file that cannot be closed properly, or is not the one in the folder any more."""
        self.database.disconnect()
        os.close(self._lock)

    def close(self, *, delete: bool = False) -> None:
        """Give the file back; `delete` removes it too, which is for one that is empty and not our own.

        Raises:
            SpoolError: it cannot be deleted; it is given back all the same.
        """
        try:
            if not self._surely_in_place():
                self.database.disconnect()
                return
            self.database.close()
            if delete:
                for part in parts(self.path):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"{self.path}: it cannot be removed: {error.strerror}") from error
        finally:
            os.close(self._lock)

    def _surely_in_place(self) -> bool:
        try:
            return self.in_place()
        except SpoolError:
            return False

    def be_in_place(self) -> None:
        """SQLite goes on writing to a file that has been removed, and nobody would ever find it again."""
        if not self.in_place():
            raise SpoolReplacedError(self.path, committed=False)

    def _leave_room(self, least: int, needed: int) -> None:
        """What fits into pages that are free in the file takes nothing from the disk."""
        with explaining(self.path):
            free = disk_space.free_bytes(self.path)
            if free >= least or disk_space.reusable_bytes(self._connection) >= needed:
                return
        raise SpoolFullError(
            f"{self.path.parent}: {free} bytes are free on its disk, and {least} must stay free "
            "(spool.min_free_bytes); make room"
        )


def peek(path: Path) -> Contents:
    """What is in a file that another process may have open.

    Raises:
        SpoolError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            statement = _CONTENTS if refused_entries.has_tables(connection) else _CONTENTS_BEFORE
            return Contents(*connection.execute(statement).fetchone())
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error
