"""Files and folders that only their owner may look into, under any umask; also those that stand already. Blocking."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE: Final = 0o600
FOLDER: Final = 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path) -> None:
    """Make it, and each missing one above it.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(FOLDER)
        path.chmod(FOLDER)
    if not path.is_dir():
        path.mkdir()  # for its error: something else stands there


def begin(path: Path) -> None:
    """Make an empty file, unless it is there already. Whatever SQLite puts beside it gets the same rights.

    Raises:
        OSError: it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, FILE)
    finally:
        os.close(descriptor)


def close_to_others(paths: Iterable[Path]) -> list[Path]:
    """Take the rights of all others away from what is ours; returns what is somebody else's and stays open to others."""
    return [path for path in paths if _is_open_to_others(path) and not _closed(path)]


def is_ours(path: Path) -> bool:
    """Whether it is there, and belongs to who we are."""
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _closed(path: Path) -> bool:
    try:
        there = path.stat()
        if there.st_uid != os.geteuid():
            return False
        path.chmod(stat.S_IMODE(there.st_mode) & ~_OTHERS)
    except FileNotFoundError:
        return True  # SQLite has just removed it
    except OSError:
        return False
    return True
