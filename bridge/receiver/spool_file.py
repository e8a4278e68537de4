"""One spool file: SQLite in WAL mode, every commit fsynced, locked by the process that owns it. Blocking."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bridge.receiver.spool_folder import (
    MOST_FILES,
    SpoolError,
    SpoolLockedError,
    candidates,
    has_only_a_log,
    lock,
    parts,
    set_aside,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OVERHEAD: Final = 64
"""Bytes that an entry takes beside its body: row, page and index shares, rounded up."""

_PROBE_BYTES: Final = 128 * 1024
"""What must be free for a disk that was full to count as usable again: the largest event, and its pages twice."""
_CONTENTS: Final = """
    SELECT count(*), coalesce(sum(length(body) + 64), 0), min(received_at), coalesce(max(id), 0) FROM entries
"""
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT
"""


class SpoolFullError(SpoolError):
    """A limit is reached: `spool.max_bytes`, `spool.min_free_bytes`, or the disk itself."""


class SpoolCorruptError(SpoolError):
    """The file cannot be read, or is gone. It is to be closed, set aside, and begun anew."""


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
            SpoolError: the folder cannot be written.
        """
        self.path = path
        self._min_free_bytes = min_free_bytes
        self._lock = lock(path)
        try:
            with self._explaining():
                self._connection = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def claim(cls, directory: Path, *, min_free_bytes: int) -> Self:
        """The first file of this folder that no other process has.

        Raises:
            SpoolError: the folder cannot be written.
        """
        for path in candidates(directory):
            with suppress(SpoolLockedError):
                return cls(path, min_free_bytes=min_free_bytes)
        raise SpoolError(f"{directory}: all of {MOST_FILES} spool files are in use by other processes")

    def contents(self) -> Contents:
        """How full it is.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._explaining():
            return Contents(*self._connection.execute(_CONTENTS).fetchone())

    def write(self, entries: Iterable[Entry], removed: Iterable[int]) -> int:
        """Add and remove in one transaction, which is on the disk when this returns how many were removed.

        Raises:
            SpoolFullError: no room; nothing was changed.
            SpoolCorruptError: the file cannot be read, or somebody has removed it.
            SpoolError: the disk refuses; nothing was changed.
        """
        added = [(entry.id, entry.received_at, entry.body) for entry in entries]
        if added:
            self._be_there()
            self._leave_room(self._min_free_bytes)
        with self._explaining(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", added)
            gone = self._connection.executemany(
                "DELETE FROM entries WHERE id = ?", [(one,) for one in removed]
            )
            return max(0, gone.rowcount)

    def probe(self) -> None:
        """Write a little that changes nothing, to learn whether a disk that refused takes entries again.

        Raises:
            SpoolFullError: there is still no room.
            SpoolCorruptError: the file cannot be read, or somebody has removed it.
            SpoolError: the disk still refuses.
        """
        self._be_there()
        self._leave_room(max(self._min_free_bytes, _PROBE_BYTES))
        with self._explaining():
            self._connection.execute("PRAGMA user_version = 0")

    def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._explaining():
            rows = self._connection.execute(
                "SELECT id, received_at, body FROM entries WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        return [Entry(*row) for row in rows]

    def oldest(self) -> int | None:
        """When the oldest entry was received, Unix milliseconds.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._explaining():
            row = self._connection.execute("SELECT received_at FROM entries ORDER BY id LIMIT 1").fetchone()
        return row[0] if row else None

    def abandon(self) -> None:
        """Let go of a file that cannot even be closed properly."""
        with suppress(sqlite3.DatabaseError):
            self._connection.close()
        os.close(self._lock)

    def close(self, *, delete: bool = False) -> None:
        """Give the file back; `delete` removes it too, which is for one that is empty and not our own.

        Raises:
            SpoolError: it cannot be deleted; it is given back all the same.
        """
        self._connection.close()
        try:
            if delete:
                for part in parts(self.path):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"{self.path}: it cannot be removed: {error.strerror}") from error
        finally:
            os.close(self._lock)

    def _open(self) -> sqlite3.Connection:
        if has_only_a_log(self.path):
            set_aside(self.path, "the database is gone, and only its write-ahead log is left")
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                raise self._explained(error) from error
            set_aside(self.path, str(error))
        with self._explaining():
            return _connect(self.path)

    def _be_there(self) -> None:
        """SQLite goes on writing to a file that has been removed, and nobody would ever find it again."""
        with self._explaining():
            there = self.path.exists()
        if not there:
            raise SpoolCorruptError(f"{self.path}: somebody has removed it while it was in use")

    def _leave_room(self, least: int) -> None:
        with self._explaining():
            free = shutil.disk_usage(self.path.parent).free
        if free < least:
            raise SpoolFullError(
                f"{self.path.parent}: {free} bytes are free on its disk, and {least} must stay free "
                "(spool.min_free_bytes); make room"
            )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error | OSError) -> SpoolError:
        if isinstance(error, OSError):
            return SpoolError(f"{self.path}: {error.strerror or error}")
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return SpoolFullError(f"{self.path}: the disk is full; make room")
        if _is_corrupt(error):
            return SpoolCorruptError(f"{self.path}: {error}")
        return SpoolError(f"{self.path}: {error}; check that the folder exists and can be written")


def peek(path: Path) -> Contents:
    """What is in a file that another process may have open.

    Raises:
        SpoolError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return Contents(*connection.execute(_CONTENTS).fetchone())
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_SCHEMA)
        if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(verdict)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _damaged(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _is_corrupt(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
