"""The errors of a spool file, and how errors of SQLite and the operating system become them."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bridge.spool.database import is_corrupt
from bridge.spool.folder import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SpoolFullError(SpoolError):
    """A limit is reached: `spool.max_bytes`, `spool.min_free_bytes`, or the disk itself."""


class SpoolCorruptError(SpoolError):
    """The database is corrupt. It has to be renamed, and a new one created."""


class SpoolReplacedError(SpoolError):
    """Somebody has removed the file, or mounted over it. Its contents can be read until it is closed."""

    def __init__(self, path: Path, *, committed: bool) -> None:
        super().__init__(f"{path}: somebody has removed it, or mounted over it, while it was in use")
        self.committed = committed
        """Whether the write was committed to the file that was replaced."""


class SpoolUnreadableError(SpoolError):
    """A file that has to be copied cannot be read."""

    def __init__(self, reason: str, copied: int) -> None:
        super().__init__(reason)
        self.copied = copied
        """How many entries were copied."""


@contextmanager
def as_spool_error(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the operating system to a SpoolError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _spool_error(path, error) from error


def _spool_error(path: Path, error: sqlite3.Error | OSError) -> SpoolError:
    if isinstance(error, OSError):
        return SpoolError(f"{path}: {error.strerror or error}")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return SpoolFullError(f"{path}: the disk is full; make room")
    if is_corrupt(error):
        return SpoolCorruptError(f"{path}: {error}")
    return SpoolError(f"{path}: {error}; check that the folder exists and can be written")
