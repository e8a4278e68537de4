"""A file system that keeps what is on the disk apart from what processes see, and forgets the rest in a power cut. Pure."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support.disk.contents import Contents
from tests.support.disk.names import Names, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.support.disk.contents import Rule, Store
    from tests.support.disk.lost import Lost

ROOT: Final = 1
"""The inode of the folder that is mounted."""


@dataclass(slots=True)
class Node:
    """What an inode is. Modes, owners and times are on the disk at once: no program here relies on them."""

    mode: int
    """With the kind of file, as `st_mode`."""
    uid: int = 0
    gid: int = 0
    contents: Contents | None = None
    """Of a file."""
    target: str = ""
    """Of a symbolic link."""
    links: int = 0
    opened: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    """Nanoseconds."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def size(self) -> int:
        return len(self.target) if self.contents is None else self.contents.size


class Model:
    """Nodes are known by their inodes, which are never used again. All errors are OSError with the number of the system."""

    def __init__(self, store: Store, rule: Rule = "posix") -> None:
        """An empty disk. Args: where the bytes are; what makes them durable."""
        self._store = store
        self.rule = rule
        self.nodes: dict[int, Node] = {}
        self._names = Names(on_truncated=self._truncation_synced)
        self._last = ROOT
        self.nodes[ROOT] = Node(mode=stat.S_IFDIR | 0o755, links=1)

    def resolve(self, path: str) -> int:
        """The inode that a path from the root leads to."""
        inode = ROOT
        for name in path.split("/"):
            if name:
                inode = self.lookup(inode, name)
        return inode

    def resolve_parent(self, path: str) -> tuple[int, str]:
        """The folder of a path, and the name in it."""
        folder, _, name = path.rpartition("/")
        return self.resolve(folder), name

    def lookup(self, folder: int, name: str) -> int:
        try:
            return self._names.seen[folder][name]
        except KeyError:
            raise _error(errno.ENOENT) from None

    def names(self, folder: int) -> dict[str, int]:
        return self._names.seen[folder]

    def create(
        self, folder: int, name: str, mode: int, *, uid: int = 0, gid: int = 0, target: str = ""
    ) -> int:
        """A new file, folder, symbolic link or socket, as the mode says; returns its inode."""
        if name in self._names.seen[folder]:
            raise _error(errno.EEXIST)
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        self._last += 1
        contents = Contents(self._last, self._store) if stat.S_ISREG(mode) else None
        self.nodes[self._last] = Node(mode=mode, uid=uid, gid=gid, contents=contents, target=target, links=1)
        self._names.do(Operation("create", (((folder, name), self._last),)))
        return self._last

    def link(self, inode: int, folder: int, name: str) -> None:
        if name in self._names.seen[folder]:
            raise _error(errno.EEXIST)
        self.nodes[inode].links += 1
        self._names.do(Operation("create", (((folder, name), inode),)))

    def remove(self, folder: int, name: str) -> None:
        """As `unlink` and `rmdir`."""
        inode = self.lookup(folder, name)
        if self._names.seen.get(inode):
            raise _error(errno.ENOTEMPTY)
        self._names.do(Operation("remove", (((folder, name), None),)))
        self._unlinked(inode)

    def rename(self, old: tuple[int, str], new: tuple[int, str]) -> None:
        inode = self.lookup(*old)
        replaced = self._names.seen[new[0]].get(new[1])
        if replaced == inode:
            return
        if replaced is not None and self._names.seen.get(replaced):
            raise _error(errno.ENOTEMPTY)
        self._names.do(Operation("rename", ((old, None), (new, inode))))
        if replaced is not None:
            self._unlinked(replaced)

    def opened(self, inode: int) -> None:
        """A process has it open, until `closed`: it may lose its name meanwhile."""
        self.nodes[inode].opened += 1

    def closed(self, inode: int) -> None:
        self.nodes[inode].opened -= 1
        self._remove_unreachable(inode)

    def write(self, inode: int, data: bytes, offset: int) -> None:
        self._contents(inode).write(data, offset)

    def truncate(self, inode: int, size: int) -> None:
        contents = self._contents(inode)
        if size == contents.size:
            return
        contents.truncate(size)
        if self.rule == "journal":
            self._names.do(Operation("truncate", truncated=(inode, size)))

    def sync_file(self, inode: int) -> None:
        """As `fsync` and `fdatasync`, which both put the size on the disk; O_SYNC and O_DSYNC end in one of them."""
        if self.rule == "journal":
            self._unreachable(self._names.sync_all())
        self._contents(inode).sync()

    def sync_folder(self, folder: int) -> None:
        """As `fsync` of a folder."""
        fewer = self._names.sync_all() if self.rule == "journal" else self._names.sync_folder(folder)
        self._unreachable(fewer)

    def sync_all(self) -> None:
        """As the system does by itself, half a minute later."""
        self._unreachable(self._names.sync_all())
        for node in self.nodes.values():
            if node.contents is not None:
                node.contents.sync()

    def cut(self, random: Random, *, share_kept: float | None = None) -> Lost:
        """The power fails, and comes back. Nothing may be open. Args: as of `Contents.cut`."""
        lost = self._names.cut(random, self.rule, share_kept=share_kept)
        reached = {ROOT} | set(self._below(ROOT))
        gone = self.nodes.keys() - reached
        for inode in sorted(reached):
            if (contents := self.nodes[inode].contents) is not None:
                lost += contents.cut(random, self.rule, share_kept=share_kept)
        self._names.forget(gone)
        for inode in gone:
            self._drop(inode)
        for inode in reached:
            self.nodes[inode].links = self.nodes[inode].opened = 0
        for inode in (ROOT, *self._below(ROOT)):
            self.nodes[inode].links += 1
        return lost

    def _below(self, folder: int) -> Iterator[int]:
        for inode in self._names.seen.get(folder, {}).values():
            yield inode
            if self.nodes[inode].is_folder:
                yield from self._below(inode)

    def _contents(self, inode: int) -> Contents:
        contents = self.nodes[inode].contents
        if contents is None:
            raise _error(errno.EISDIR)
        return contents

    def _truncation_synced(self, inode: int, size: int) -> None:
        node = self.nodes.get(inode)
        if node is not None and node.contents is not None:
            node.contents.sync_truncation(size)

    def _unlinked(self, inode: int) -> None:
        self.nodes[inode].links -= 1
        self._remove_unreachable(inode)

    def _unreachable(self, inodes: list[int]) -> None:
        for inode in inodes:
            self._remove_unreachable(inode)

    def _remove_unreachable(self, inode: int) -> None:
        node = self.nodes.get(inode)
        if node is None or node.links or node.opened or self._names.may_come_back(inode):
            return
        # What was in a folder that is gone is gone with it.
        inside = [*self._names.synced(inode)] if node.is_folder else []
        self._names.forget([inode])
        self._drop(inode)
        self._unreachable(inside)

    def _drop(self, inode: int) -> None:
        if self.nodes.pop(inode).contents is not None:
            self._store.remove(inode)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
