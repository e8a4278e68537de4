"""One spool file: SQLite in WAL mode, every commit fsynced, locked by the process that owns it. Blocking."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logs.logger("spool")

OVERHEAD: Final = 64
"""Bytes that an entry takes beside its body: row, page and index shares, rounded up."""

_SUFFIXES: Final = ("", "-wal", "-shm")
_NAME: Final = re.compile(r"spool-(\d+)\.sqlite3")
_MOST_FILES: Final = 1000
_CONTENTS: Final = """
    SELECT count(*), coalesce(sum(length(body) + 64), 0), min(received_at) FROM entries
"""
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT
"""


class SpoolError(Exception):
    """The spool cannot do what it was asked. Its message says why and, where one can, what to do."""


class SpoolFullError(SpoolError):
    """A limit is reached: `spool.max_bytes`, `spool.min_free_bytes`, or the disk itself."""


class SpoolLockedError(SpoolError):
    """Another process has this file."""


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
        self._lock = _locked(path)
        try:
            self._connection = self._open()
        except SpoolError:
            os.close(self._lock)
            raise

    @classmethod
    def claim(cls, directory: Path, *, min_free_bytes: int) -> Self:
        """The first file of this folder that no other process has.

        Raises:
            SpoolError: the folder cannot be written.
        """
        for number in range(_MOST_FILES):
            with suppress(SpoolLockedError):
                return cls(directory / f"spool-{number}.sqlite3", min_free_bytes=min_free_bytes)
        raise SpoolError(f"{directory}: all of {_MOST_FILES} spool files are in use by other processes")

    def contents(self) -> Contents:
        return Contents(*self._connection.execute(_CONTENTS).fetchone())

    def write(self, entries: Iterable[Entry], removed: Iterable[int]) -> int:
        """Add and remove in one transaction, which is on the disk when this returns how many were removed.

        Raises:
            SpoolFullError: no room; nothing was changed.
            SpoolError: the disk refuses; nothing was changed.
        """
        added = [(entry.id, entry.received_at, entry.body) for entry in entries]
        if added:
            self._leave_room()
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", added)
                gone = self._connection.executemany(
                    "DELETE FROM entries WHERE id = ?", [(one,) for one in removed]
                )
                return max(0, gone.rowcount)
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        Raises:
            SpoolError: the disk refuses.
        """
        try:
            rows = self._connection.execute(
                "SELECT id, received_at, body FROM entries WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error
        return [Entry(*row) for row in rows]

    def oldest(self) -> int | None:
        """When the oldest entry was received, Unix milliseconds."""
        row = self._connection.execute("SELECT received_at FROM entries ORDER BY id LIMIT 1").fetchone()
        return row[0] if row else None

    def abandon(self) -> None:
        """Let go of a file that cannot even be closed properly."""
        with suppress(sqlite3.DatabaseError):
            self._connection.close()
        os.close(self._lock)

    def close(self, *, delete: bool = False) -> None:
        """Give the file back; `delete` removes it too, which is for one that is empty and not our own."""
        self._connection.close()
        if delete:
            for suffix in _SUFFIXES:
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        os.close(self._lock)

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                raise self._explained(error) from error
            set_aside(self.path, str(error))
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _leave_room(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < self._min_free_bytes:
            raise SpoolFullError(
                f"{self.path.parent}: {free} bytes are free on its disk, and spool.min_free_bytes is "
                f"{self._min_free_bytes}; make room"
            )

    def _explained(self, error: sqlite3.DatabaseError) -> SpoolError:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            return SpoolFullError(f"{self.path}: the disk is full; make room")
        if _is_corrupt(error):
            return SpoolCorruptError(f"{self.path}: {error}")
        return SpoolError(f"{self.path}: {error}; check that the folder exists and can be written")


class SpoolCorruptError(SpoolError):
    """SQLite cannot read the file. It is to be closed, set aside, and begun anew."""


def others(directory: Path, own: Iterable[Path]) -> list[Path]:
    """Spool files of this folder that are not among our own; whether their owner lives, the lock tells."""
    mine = set(own)
    found = (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return sorted(path for path in found if path not in mine)


def in_use(path: Path) -> bool:
    """Whether a process has this file now."""
    try:
        os.close(_locked(path))
    except SpoolLockedError:
        return True
    return False


def set_aside(path: Path, reason: str) -> Path:
    """Rename a corrupt file, so that somebody can look at it; it is never deleted."""
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    log.error(
        "a spool file is corrupt: set aside, a new one is begun",
        action="spool.corrupt",
        file=str(path),
        set_aside=str(aside),
        reason=reason,
    )
    return aside


def peek(path: Path) -> Contents:
    """What is in a file that another process may have open.

    Raises:
        SpoolError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return Contents(*connection.execute(_CONTENTS).fetchone())
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error


def _locked(path: Path) -> int:
    """The lock is on a file of its own, which is never removed: SQLite replaces and removes its files."""
    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(
            f"{path.parent}: {error.strerror}; spool.directory must exist and be writable"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolLockedError(f"{path}: another process has it") from error
    return descriptor


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


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
