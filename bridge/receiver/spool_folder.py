"""The spool's folder: which files are in it, which process has which, and where a corrupt one goes. Blocking."""

from __future__ import annotations

import fcntl
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logs.logger("spool")

MOST_FILES: Final = 1000
"""As many processes can have a file in one folder."""

_LOCKED_AGAIN: Final = 20
_NAME: Final = re.compile(r"spool-(\d+)\.sqlite3")
_SUFFIXES: Final = ("", "-wal", "-shm")


class SpoolError(Exception):
    """The spool cannot do what it was asked. Its message says why and, where one can, what to do."""


class SpoolLockedError(SpoolError):
    """Another process has this file."""


Standing = tuple[tuple[int, int] | None, ...]
"""Device and inode of each file of one database, its lock first; None where there is none."""


def candidates(directory: Path) -> Iterator[Path]:
    """The files that a process may have in this folder, whether they are there or not, the first to try first."""
    return (directory / f"spool-{number}.sqlite3" for number in range(MOST_FILES))


def others(directory: Path, own: Iterable[Path]) -> list[Path]:
    """Spool files of this folder that are not among our own; whether their owner lives, the lock tells."""
    if not directory.is_dir():
        return []
    mine = set(own)
    found = (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return sorted(path for path in found if path not in mine)


def in_use(path: Path) -> bool:
    """Whether a process has this file now."""
    try:
        os.close(lock(path))
    except SpoolLockedError:
        return True
    return False


def lock(path: Path) -> int:
    """Lock this file for as long as the descriptor that is returned stays open.

    The lock is on a file of its own, which we never remove: SQLite replaces and removes its files. Where somebody
    else removes it at that moment, a lock on what was removed would protect nothing: the one that stands is locked.

    Raises:
        SpoolLockedError: another process has it.
        SpoolError: the folder cannot be written.
    """
    for _ in range(_LOCKED_AGAIN):
        try:
            descriptor = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(
                f"{path.parent}: {error.strerror}; spool.directory must exist and be writable"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if holds(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise SpoolLockedError(f"{path}: another process has it") from error
        except OSError as error:
            os.close(descriptor)
            raise SpoolError(f"{path.parent}: {error.strerror}") from error
        os.close(descriptor)
    raise SpoolError(f"{_lock_of(path)}: somebody replaces it again and again")


def holds(descriptor: int, path: Path) -> bool:
    """Whether this descriptor is of the lock that stands beside the file now.

    Raises:
        OSError: the folder cannot be read.
    """
    locked = os.fstat(descriptor)
    return _identity(_lock_of(path)) == (locked.st_dev, locked.st_ino)


def standing(path: Path) -> Standing:
    """Which files stand under the names of this database now.

    A name says nothing: a process goes on with a file that was removed or mounted over, and its fsyncs succeed.

    Raises:
        OSError: the folder cannot be read.
    """
    return tuple(_identity(part) for part in (_lock_of(path), *parts(path)))


def set_aside(path: Path, reason: str) -> Path:
    """Rename a corrupt file, so that somebody can look at it; it is never deleted.

    Raises:
        SpoolError: the folder cannot be written.
    """
    aside = path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}")
    try:
        for part, name in zip(parts(path), parts(aside), strict=True):
            if part.exists():
                part.rename(name)
    except OSError as error:
        raise SpoolError(f"{path}: corrupt, and it cannot be set aside: {error.strerror}") from error
    log.error(
        "a spool file is corrupt: set aside, a new one is begun",
        action="spool.corrupt",
        file=str(path),
        set_aside=str(aside),
        reason=reason,
    )
    return aside


def has_only_a_log(path: Path) -> bool:
    """Whether SQLite would take the database for a new one, and delete the log with its entries."""
    database, write_ahead_log, _ = parts(path)
    return _size(write_ahead_log) > 0 and _size(database) == 0


def parts(path: Path) -> list[Path]:
    """All that SQLite keeps of one database: itself, its write-ahead log, and the log's index."""
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return there.st_dev, there.st_ino


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
