"""The spool folder: names, locks and access rights of its files, and the renaming of corrupt ones. Blocking."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bridge import durable_files, private_files
from bridge.spool.errors import SpoolError, SpoolForeignError, SpoolLockedError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logs.logger("spool")

MAX_FILES: Final = 1000
"""Limit of processes that share a folder."""

_LOCK_ATTEMPTS: Final = 20
"""Each needs somebody who removes the lock file at just that moment."""
_NAME: Final = re.compile(r"spool-(\d+)\.sqlite3")
_SUFFIXES: Final = ("", "-wal", "-shm")
_PREFIX: Final = "spool-"
_FOREIGN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP})
"""An existing lock file that cannot be opened for one of these is not ours."""
_MAX_NAMED: Final = 10
"""Files named in one log line."""


FileIdentities = tuple[tuple[int, int] | None, ...]
"""Device and inode of the lock and each file of a database; None for a file that does not exist."""


def possible_paths(directory: Path) -> Iterator[Path]:
    """The paths that a process may claim in this folder, in order, whether they exist or not."""
    return (directory / f"spool-{number}.sqlite3" for number in range(MAX_FILES))


def other_files(directory: Path, own: Iterable[Path]) -> list[Path]:
    """The spool files of this folder except our own. Their locks tell whether a process has them."""
    if not directory.is_dir():
        return []
    mine = set(own)
    found = (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return sorted(path for path in found if path not in mine)


def make_folder(directory: Path) -> None:
    """Create the folder, for the owner only.

    Raises:
        SpoolError: it cannot be created.
    """
    try:
        private_files.make_folder(directory)
    except OSError as error:
        raise SpoolError(f"{directory}: {error.strerror}; spool.directory must be writable") from error


def make_private(directory: Path) -> None:
    """Make files private that an earlier release created with wider permissions; log those that are not ours.

    The folder itself is made private only if it contains nothing but our spool files: others may need access to
    anything else in it.
    """
    try:
        paths = list(directory.iterdir())
    except OSError:
        return  # whoever uses the folder will see the error
    ours = [path for path in paths if path.name.startswith(_PREFIX)]
    open_to_others = private_files.make_private(ours)
    if (
        private_files.is_owned_by_us(directory)
        and all(map(private_files.is_owned_by_us, paths))
        and paths == ours
    ):
        open_to_others += private_files.make_private([directory])
    if open_to_others:
        log.warning(
            "other users may read spool files, and they are not ours to change",
            action="spool.open_to_others",
            files=sorted(str(path) for path in open_to_others)[:_MAX_NAMED],
        )


def in_use(path: Path) -> bool:
    """Whether a process has locked this file.

    Raises:
        SpoolForeignError: only its owner can tell.
        SpoolError: the folder cannot be written.
    """
    try:
        os.close(acquire_lock(path))
    except SpoolForeignError:
        raise
    except SpoolLockedError:
        return True
    return False


def acquire_lock(path: Path) -> int:
    """Lock this file for as long as the descriptor that is returned stays open.

    The lock is a separate file, which is never removed, because SQLite replaces and removes its own. If somebody else
    removes it meanwhile, a lock on the removed file would protect nothing, so the lock file is opened again.

    Raises:
        SpoolLockedError: another process has it.
        SpoolForeignError: another user has it.
        SpoolError: the folder cannot be written.
    """
    for _ in range(_LOCK_ATTEMPTS):
        try:
            private_files.create_file(_lock_path(path))
            descriptor = os.open(
                _lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, private_files.FILE_MODE
            )
        except OSError as error:
            if error.errno in _FOREIGN and os.path.lexists(_lock_path(path)):
                raise SpoolForeignError(
                    f"{_lock_path(path)}: {error.strerror}; it is another user's"
                ) from error
            raise SpoolError(
                f"{path.parent}: {error.strerror}; spool.directory must exist and be writable"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if holds_lock(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise SpoolLockedError(f"{path}: another process has it") from error
        except OSError as error:
            os.close(descriptor)
            raise SpoolError(f"{path.parent}: {error.strerror}") from error
        os.close(descriptor)
    raise SpoolError(f"{_lock_path(path)}: somebody keeps replacing it")


def holds_lock(descriptor: int, path: Path) -> bool:
    """Whether this descriptor is the lock file that exists now.

    Raises:
        OSError: the folder cannot be read.
    """
    locked = os.fstat(descriptor)
    return _identity(_lock_path(path)) == (locked.st_dev, locked.st_ino)


def file_identities(path: Path) -> FileIdentities:
    """The identities of the files that exist under the names of this database now.

    Names are not enough: a process can keep using a file that was removed or mounted over, and its fsyncs succeed.

    Raises:
        OSError: the folder cannot be read.
    """
    return tuple(_identity(part) for part in (_lock_path(path), *database_files(path)))


def rename_corrupt(path: Path, reason: str) -> Path:
    """Rename a corrupt file, so that somebody can inspect it; returns its new path. It is never deleted.

    Raises:
        SpoolError: the folder cannot be written.
    """
    renamed = path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}")
    try:
        for part, name in zip(database_files(path), database_files(renamed), strict=True):
            if part.exists():
                part.rename(name)
        durable_files.sync_folder(path.parent)
    except OSError as error:
        raise SpoolError(f"{path}: it is corrupt, and cannot be renamed: {error.strerror}") from error
    log.error(
        "a spool file is corrupt: it was renamed, and a new one is created",
        action="spool.corrupt",
        file=str(path),
        renamed_to=str(renamed),
        reason=reason,
    )
    return renamed


def check_access(path: Path) -> None:
    """Check that the files of this database can be read and written.

    Raises:
        SpoolForeignError: they cannot.
    """
    for part in database_files(path):
        if part.exists() and not os.access(part, os.R_OK | os.W_OK, effective_ids=True):
            raise SpoolForeignError(f"{part}: no permission to read and write it; it is another user's")


def has_only_wal(path: Path) -> bool:
    """Whether only the write-ahead log has data. SQLite would create a new database, and delete the log."""
    database, write_ahead_log, _ = database_files(path)
    return _size(write_ahead_log) > 0 and _size(database) == 0


def database_files(path: Path) -> list[Path]:
    """The files of an SQLite database: itself, its write-ahead log, and the index of the log."""
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return there.st_dev, there.st_ino


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
