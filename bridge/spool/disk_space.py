"""Disk space of a spool file: free pages can be reused, and a large file that is nearly empty is shrunk. Blocking."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bridge.spool.errors import SpoolFullError
from bridge.spool.folder import database_files

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_MIN_SHRINK_BYTES: Final = 8 * 1024**2
"""Smaller files are not shrunk. It is twice the size that SQLite's log alone reaches."""
_MAX_COPIED_BYTES: Final = 1024**2
"""A file with more in it is not shrunk: that copies its contents, and every writer waits for it."""


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of this file.

    Raises:
        OSError: the folder cannot be read.
    """
    return shutil.disk_usage(path.parent).free


def reusable_bytes(connection: sqlite3.Connection) -> int:
    """Bytes that can be written without making the file larger: its free pages."""
    return _pragma(connection, "freelist_count") * _pragma(connection, "page_size")


def is_too_large(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is large and nearly empty.

    Raises:
        OSError: the folder cannot be read.
    """
    if sum(part.stat().st_size for part in database_files(path)[:2] if part.exists()) <= _MIN_SHRINK_BYTES:
        return False
    return used_bytes(connection) <= _MAX_COPIED_BYTES


def used_bytes(connection: sqlite3.Connection) -> int:
    """Size of the file without its free pages."""
    used = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return used * _pragma(connection, "page_size")


def check_free(connection: sqlite3.Connection, path: Path, *, least: int, needed: int) -> None:
    """Check that the file may grow, or need not: entries that fit into its free pages need no space on the disk.

    Args:
        connection: to the file.
        path: of the file.
        least: bytes that must stay free on its disk.
        needed: bytes that are to be written.

    Raises:
        SpoolFullError: there is not enough space.
        OSError: the folder cannot be read.
    """
    free = free_bytes(path)
    if free < least and reusable_bytes(connection) < needed:
        raise SpoolFullError(
            f"{path.parent}: {free} bytes are free on its disk, and {least} must stay free "
            "(spool.min_free_bytes); make room"
        )


def shrink_if_too_large(connection: sqlite3.Connection, path: Path) -> bool:
    """Shrink the file if it is large and nearly empty; returns whether it was.

    Raises:
        sqlite3.Error: a reader is in the way, or the disk fails.
        OSError: the folder cannot be read.
    """
    if not is_too_large(connection, path):
        return False
    shrink(connection)
    return True


def shrink(connection: sqlite3.Connection) -> None:
    """Return free pages to the disk. It does not wait for a concurrent reader; the next call will do it.

    The log first: on a full disk, VACUUM needs its space.
    """
    timeout = _pragma(connection, "busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        for step in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            connection.execute(step).fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        value: int = cursor.fetchone()[0]
    return value
