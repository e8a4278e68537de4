"""Creates files and folders that only their owner can read, whatever the umask, and fixes existing ones. Blocking."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge import durable_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path) -> None:
    """Create the folder, and its missing parents. A power cut does not take it away again.

    Raises:
        OSError: it cannot be created.
    """
    if path.is_dir():
        durable_files.sync_folder(path.parent)  # whoever has made it may have been killed before doing this
        return
    if not path.parent.exists():
        make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(FOLDER_MODE)
        path.chmod(FOLDER_MODE)
    if not path.is_dir():
        path.mkdir()  # to raise its error: something else exists there
    durable_files.sync_folder(path.parent)


def create_file(path: Path) -> None:
    """Create an empty file, unless it exists. SQLite gives its other files the same permissions.

    Raises:
        OSError: it cannot be created.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def make_private(paths: Iterable[Path]) -> list[Path]:
    """Remove the permissions of others from our own paths; returns the foreign ones, which stay open to others."""
    return [path for path in paths if _is_open_to_others(path) and not _made_private(path)]


def is_owned_by_us(path: Path) -> bool:
    """Whether it exists and belongs to this process's user."""
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _made_private(path: Path) -> bool:
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
