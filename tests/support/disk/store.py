"""The bytes of files, each in a file of a real folder that is named by its inode. They are never fsynced: nobody pulls that plug."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_MAX_OPEN: Final = 512


class FolderStore:
    """A `Store` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder."""
        self._folder = str(folder)
        self._descriptors: dict[int, int] = {}
        """Those used last are last."""
        self.is_full = False
        """Whether there is no room for anything more."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * _MAX_OPEN), most))

    def read(self, inode: int, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor(inode), size, offset)

    def write(self, inode: int, data: bytes, offset: int) -> None:
        descriptor = self._descriptor(inode)
        written = os.pwrite(descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)

    def truncate(self, inode: int, size: int) -> None:
        os.ftruncate(self._descriptor(inode), size)

    def remove(self, inode: int) -> None:
        os.close(self._descriptor(inode))
        del self._descriptors[inode]
        os.unlink(self._path(inode))  # noqa: PTH108 -- a path object costs more than the call

    def statistics(self) -> os.statvfs_result:
        """Of the disk under it, as `statvfs`."""
        return os.statvfs(self._folder)

    def _descriptor(self, inode: int) -> int:
        descriptor = self._descriptors.pop(inode, None)
        if descriptor is None:
            if len(self._descriptors) >= _MAX_OPEN:
                oldest = next(iter(self._descriptors))
                os.close(self._descriptors.pop(oldest))
            descriptor = os.open(self._path(inode), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptors[inode] = descriptor
        return descriptor

    def _path(self, inode: int) -> str:
        return f"{self._folder}/{inode}"
