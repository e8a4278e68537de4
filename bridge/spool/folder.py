"""The spool's folder: which files are in it, which process has which, and where a corrupt one goes. Blocking."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bridge import private_files
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
_BEGINNING: Final = "spool-"
_FOREIGN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP})
_MOST_NAMED: Final = 10


class SpoolError(Exception):
    """The spool cannot do what it was asked. Its message says why and, where one can, what to do."""


class SpoolLockedError(SpoolError):
    """Another process has this file."""


class SpoolForeignError(SpoolLockedError):
    """It is another user's: we may not open its lock, or what is in it."""


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


def make(directory: Path) -> None:
    """Make the folder, for ourselves alone.

    Raises:
        SpoolError: it cannot be made.
    """
    try:
        private_files.make_folder(directory)
    except OSError as error:
        raise SpoolError(f"{directory}: {error.strerror}; spool.directory must be writable") from error


def close_to_others(directory: Path) -> None:
    """What an earlier release has left open to others is closed to them, where it is ours; what is not, is logged.

    The folder itself is closed where there is nothing in it but spool files of ours: other things in it, and other
    users, may be meant to be reached.
    """
    try:
        there = list(directory.iterdir())
    except OSError:
        return  # whoever wants to use it finds out
    ours = [path for path in there if path.name.startswith(_BEGINNING)]
    open_to_others = private_files.close_to_others(ours)
    if private_files.is_ours(directory) and all(map(private_files.is_ours, there)) and there == ours:
        open_to_others += private_files.close_to_others([directory])
    if open_to_others:
        log.warning(
            "others may read what is in the spool, and it is not ours to change that",
            action="spool.open_to_others",
            files=sorted(str(path) for path in open_to_others)[:_MOST_NAMED],
        )


def in_use(path: Path) -> bool:
    """Whether a process has this file now.

    Raises:
        SpoolForeignError: only its user can tell.
        SpoolError: the folder cannot be written.
    """
    try:
        os.close(lock(path))
    except SpoolForeignError:
        raise
    except SpoolLockedError:
        return True
    return False


def lock(path: Path) -> int:
    """Lock this file for as long as the descriptor that is returned stays open.

    The lock is on a file of its own, which we never remove: SQLite replaces and removes its files. Where somebody
    else removes it at that moment, a lock on what was removed would protect nothing: the one that stands is locked.

    Raises:
        SpoolLockedError: another process has it.
        SpoolForeignError: another user has.
        SpoolError: the folder cannot be written.
    """
    for _ in range(_LOCKED_AGAIN):
        try:
            private_files.begin(_lock_of(path))
            descriptor = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, private_files.FILE)
        except OSError as error:
            if error.errno in _FOREIGN and os.path.lexists(_lock_of(path)):
                raise SpoolForeignError(
                    f"{_lock_of(path)}: {error.strerror}; it is another user's"
                ) from error
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


def must_be_ours(path: Path) -> None:
    """Look whether we may read and write what stands under this name.

    Raises:
        SpoolForeignError: we may not.
    """
    for part in parts(path):
        if part.exists() and not os.access(part, os.R_OK | os.W_OK, effective_ids=True):
            raise SpoolForeignError(f"{part}: it may not be read and written; it is another user's")


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
