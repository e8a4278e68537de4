"""The errors of the spool, and how errors of SQLite and the operating system become them."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SpoolError(Exception):
    """The spool cannot do what was asked. The message says why and, if possible, what to do."""


class SpoolLockedError(SpoolError):
    """Another process has this file."""


class SpoolForeignError(SpoolLockedError):
    """The file belongs to another user: its lock, or the database, cannot be opened."""


class SpoolFullError(SpoolError):
    """A limit is reached: `spool.max_bytes`, `spool.min_free_bytes`, or the disk itself."""


class SpoolCorruptError(SpoolError):
    """The database is corrupt. It has to be renamed, and a new one created."""


class SpoolMissingError(SpoolError):
    """Somebody has removed the file, or mounted over it. Its contents can be read until it is closed."""

    def __init__(self, path: Path, *, committed: bool) -> None:
        super().__init__(f"{path}: somebody has removed it, or mounted over it, while it was in use")
        self.committed = committed
        """Whether the write was committed to the missing file."""


class SpoolUnreadableError(SpoolError):
    """A file that has to be copied cannot be read."""

    def __init__(self, reason: str, copied: int) -> None:
        super().__init__(reason)
        self.copied = copied
        """How many entries were copied."""


@contextmanager
def as_spool_error(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the operating system. Args: the file, for the text.

    Raises:
        SpoolFullError: the disk is full.
        SpoolCorruptError: the file is damaged, or no database.
        SpoolError: anything else.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _spool_error(path, error) from error


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged, or no database (SQLITE_CORRUPT, SQLITE_NOTADB)."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _spool_error(path: Path, error: sqlite3.Error | OSError) -> SpoolError:
    if isinstance(error, OSError):
        return SpoolError(f"{path}: {error.strerror or error}")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return SpoolFullError(f"{path}: the disk is full; make room")
    if is_corrupt(error):
        return SpoolCorruptError(f"{path}: {error}")
    return SpoolError(f"{path}: {error}; check that the folder exists and can be written")
