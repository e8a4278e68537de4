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

_NAME: Final = re.compile(r"spool-(\d+)\.sqlite3")
_SUFFIXES: Final = ("", "-wal", "-shm")


class SpoolError(Exception):
    """The spool cannot do what it was asked. Its message says why and, where one can, what to do."""


class SpoolLockedError(SpoolError):
    """Another process has this file."""


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

    The lock is on a file of its own, which is never removed: SQLite replaces and removes its files.

    Raises:
        SpoolLockedError: another process has it.
        SpoolError: the folder cannot be written.
    """
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


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
