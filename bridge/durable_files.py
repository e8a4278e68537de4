"""Files that are still there after a power cut: a name is on the disk only once its folder was fsynced. Blocking."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_folder(path: Path) -> None:
    """Put the names in this folder on the disk: files and folders that were made, renamed or removed in it.

    Where that is not possible, in a folder that we may write to but not read, or on a file system that has no such thing,
    it is left to the file system.

    Raises:
        OSError: the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems
            raise
    finally:
        os.close(descriptor)


def put_in_place(draft: Path, path: Path) -> None:
    """Rename a complete file to this path, so that there is the former file or this one, whole, whatever happens.

    Raises:
        OSError: it cannot be done; the former file stands.
    """
    # First what is in it: a disk may put the new name in place before the data, and then there would be neither.
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    sync_folder(path.parent)
