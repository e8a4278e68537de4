"""How a spool file fails, and what SQLite and the operating system call it."""

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
    """The file cannot be read. It is to be set aside, and begun anew."""


class SpoolReplacedError(SpoolError):
    """Somebody has removed the file, or mounted over it. What is in it can still be read, until it is closed."""

    def __init__(self, path: Path, *, committed: bool) -> None:
        super().__init__(f"{path}: somebody has removed it, or mounted over it, while it was in use")
        self.committed = committed
        """Whether what was to be written is in the file that is gone."""


class SpoolUnreadableError(SpoolError):
    """What is in a file that is to be copied cannot be read."""

    def __init__(self, reason: str, copied: int) -> None:
        super().__init__(reason)
        self.copied = copied
        """How many entries could be."""


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Raise what goes wrong with this file as one of ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: sqlite3.Error | OSError) -> SpoolError:
    if isinstance(error, OSError):
        return SpoolError(f"{path}: {error.strerror or error}")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return SpoolFullError(f"{path}: the disk is full; make room")
    if is_corrupt(error):
        return SpoolCorruptError(f"{path}: {error}")
    return SpoolError(f"{path}: {error}; check that the folder exists and can be written")
