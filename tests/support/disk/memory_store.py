"""The bytes of files in memory, for tests of the model."""

from __future__ import annotations

from collections import defaultdict


class MemoryStore:
    """A `Store`."""

    def __init__(self) -> None:
        self._files: defaultdict[int, bytearray] = defaultdict(bytearray)

    def bytes_of(self, inode: int) -> bytes:
        return bytes(self._files[inode])

    @property
    def inodes(self) -> set[int]:
        """Of the files that are not removed."""
        return set(self._files)

    def read(self, inode: int, size: int, offset: int) -> bytes:
        return bytes(self._files[inode][offset : offset + size])

    def write(self, inode: int, data: bytes, offset: int) -> None:
        file = self._files[inode]
        file.extend(bytes(max(0, offset - len(file))))
        file[offset : offset + len(data)] = data

    def truncate(self, inode: int, size: int) -> None:
        file = self._files[inode]
        del file[size:]
        file.extend(bytes(size - len(file)))

    def remove(self, inode: int) -> None:
        self._files.pop(inode, None)
