"""The room of a spool file: what is free in it counts, and a large one that is nearly empty is made small. Blocking."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bridge.spool.folder import parts

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_LARGE: Final = 8 * 1024**2
"""Bytes on the disk: twice what SQLite's log alone grows to."""
_LITTLE: Final = 1024**2
"""Bytes that may still be in a large file: they are copied, and everybody waits for that."""


def free_bytes(path: Path) -> int:
    """What is free on the disk of this file.

    Raises:
        OSError: the folder cannot be read.
    """
    return shutil.disk_usage(path.parent).free


def reusable_bytes(connection: sqlite3.Connection) -> int:
    """What can be written into the file without making it larger: pages whose entries were removed."""
    return _pragma(connection, "freelist_count") * _pragma(connection, "page_size")


def is_too_large(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether it takes much of the disk for the little that is in it.

    Raises:
        OSError: the folder cannot be read.
    """
    if sum(part.stat().st_size for part in parts(path)[:2] if part.exists()) <= _LARGE:
        return False
    return used_bytes(connection) <= _LITTLE


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the file holds, without its free pages."""
    used = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return used * _pragma(connection, "page_size")


def shrink(connection: sqlite3.Connection) -> None:
    """Give the room back to the disk. Whoever reads at that moment is not waited for; the next time does it.

    The log goes first: on a full disk the rest needs its room.
    """
    patience = _pragma(connection, "busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        for step in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            connection.execute(step).fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        value: int = cursor.fetchone()[0]
    return value
