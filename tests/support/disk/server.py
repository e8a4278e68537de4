"""The process of one forgetful disk: `python -m tests.support.disk.server MOUNTED BACKING RULE`.

It prints a line of JSON whenever it is mounted, and reads a line whenever somebody has unmounted it: of JSON, the seed of a
power cut and the share of it that is kept, after which it mounts again what the disk still has. The end of its input ends it.

The kernel caches pages, names and attributes, and writes pages back as it does for any disk; as nobody else changes the
files, nothing ever has to be asked again. One thing it does not do as a disk does: `fstat` of a file that is open and has
no name any more fails.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import stat
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import mfusepy
import orjson

from tests.support.disk.lost import Lost
from tests.support.disk.model import ROOT, Model
from tests.support.disk.protocol import FULL_ATTRIBUTE, SYNC_ATTRIBUTE
from tests.support.disk.store import FolderStore

if TYPE_CHECKING:
    from tests.support.disk.contents import Rule
    from tests.support.disk.model import Node

_FOREVER_SECONDS: Final = 1e6
_WRITEBACK_CACHE: Final = 1 << 16
"""FUSE_CAP_WRITEBACK_CACHE: without it each write of a few bytes is a request of its own, and an fsync has less to do."""
_END_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG."""
_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE."""


class ForgetfulOperations(mfusepy.Operations):
    """The operations of the kernel on a model. A handle is an inode."""

    use_ns = True

    def __init__(self, model: Model, store: FolderStore, lost: Lost | None) -> None:
        """Args: `lost`: what to print when it is mounted; None at the first time."""
        self._model = model
        self._store = store
        self._lost = lost

    def init_with_config(self, connection: Any, config: Any) -> None:
        connection.want |= connection.capable & _WRITEBACK_CACHE
        config.use_ino = config.hard_remove = config.kernel_cache = config.nullpath_ok = 1
        config.entry_timeout = config.attr_timeout = config.negative_timeout = _FOREVER_SECONDS
        print(orjson.dumps(asdict(self._lost or Lost())).decode(), flush=True)  # noqa: T201 -- as announced

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        inode = self._inode(path, fh)
        node = self._model.nodes[inode]
        return {
            "st_ino": inode,
            "st_mode": node.mode,
            "st_nlink": node.links,
            "st_uid": node.uid,
            "st_gid": node.gid,
            "st_size": node.size,
            "st_blocks": -(-node.size // 512),
            "st_atime": node.atime,
            "st_mtime": node.mtime,
            "st_ctime": node.ctime,
        }

    def open(self, path: str, flags: int) -> int:
        inode = self._model.resolve(path)
        self._model.opened(inode)
        if flags & os.O_TRUNC:
            self._truncate(inode, 0)
        return inode

    def create(self, path: str, mode: int) -> int:
        inode = self._create(path, mode)
        self._model.opened(inode)
        return inode

    def mknod(self, path: str, mode: int, dev: int) -> int:  # noqa: ARG002 -- no devices here
        self._create(path, mode)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._create(path, mode | stat.S_IFDIR)
        return 0

    def symlink(self, target: str, source: str) -> int:
        """Args: named as mfusepy has them: the path, and what it leads to."""
        self._create(target, stat.S_IFLNK | 0o777, target=source)
        return 0

    def readlink(self, path: str) -> str:
        return self._model.nodes[self._model.resolve(path)].target

    def link(self, target: str, source: str) -> int:
        """Args: the new path, and the old one."""
        self._model.link(self._model.resolve(source), *self._model.resolve_parent(target))
        return 0

    def unlink(self, path: str) -> int:
        self._model.remove(*self._model.resolve_parent(path))
        return 0

    def rmdir(self, path: str) -> int:
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        self._model.rename(self._model.resolve_parent(old), self._model.resolve_parent(new))
        return 0

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002 -- the handle says it
        return self._store.read(fh, size, offset)

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002 -- as above
        if offset + len(data) > self._model.nodes[fh].size:
            self._needs_room()
        self._model.write(fh, data, offset)
        node = self._model.nodes[fh]
        node.mtime = node.ctime = time.time_ns()
        return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        self._truncate(self._inode(path, fh), length)
        return 0

    def fallocate(self, path: str | None, mode: int, offset: int, size: int, fh: int) -> int:  # noqa: ARG002 -- as above
        if mode & ~_KEEP_SIZE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if not mode and offset + size > self._model.nodes[fh].size:
            self._truncate(fh, offset + size)
        return 0

    def fsync(self, path: str | None, datasync: int, fh: int) -> int:  # noqa: ARG002 -- as above
        self._model.sync_file(fh)
        return 0

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> int:  # noqa: ARG002 -- as above
        self._model.sync_folder(fh)
        return 0

    def release(self, path: str | None, fh: int) -> int:  # noqa: ARG002 -- as above
        self._model.closed(fh)
        return 0

    def opendir(self, path: str) -> int:
        return self._model.resolve(path)

    def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, int], int]]:  # noqa: ARG002 -- as above
        nodes = self._model.nodes
        names = {".": fh, "..": ROOT} | self._model.names(fh)
        return [(name, {"st_ino": inode, "st_mode": nodes[inode].mode}, 0) for name, inode in names.items()]

    def chmod(self, path: str, mode: int) -> int:
        node = self._changed(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        node = self._changed(path)
        node.uid = node.uid if uid == -1 else uid
        node.gid = node.gid if gid == -1 else gid
        return 0

    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> int:
        # Without a path it is the kernel that writes a time back: it has one of the write, too.
        if path is not None:
            node = self._changed(path)
            node.atime, node.mtime = times or (node.ctime, node.ctime)
        return 0

    def statfs(self, path: str) -> dict[str, int]:  # noqa: ARG002 -- one disk
        there = self._store.statistics()
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
        free = {"f_bfree": 0, "f_bavail": 0} if self._store.is_full else {}
        return {name: getattr(there, name) for name in names} | {"f_namemax": 255} | free

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:  # noqa: ARG002 -- only whether
        if name == FULL_ATTRIBUTE:
            self._store.is_full = value == b"1"
            return 0
        if name != SYNC_ATTRIBUTE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._model.sync_all()
        return 0

    def _needs_room(self) -> None:
        if self._store.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _inode(self, path: str | None, fh: int | None) -> int:
        return self._model.resolve(path) if path is not None else cast("int", fh)

    def _create(self, path: str, mode: int, *, target: str = "") -> int:
        self._needs_room()
        uid, gid, _ = mfusepy.fuse_get_context()
        folder, name = self._model.resolve_parent(path)
        inode = self._model.create(folder, name, mode, uid=uid, gid=gid, target=target)
        node, parent = self._model.nodes[inode], self._model.nodes[folder]
        node.atime = node.mtime = node.ctime = parent.mtime = parent.ctime = time.time_ns()
        return inode

    def _truncate(self, inode: int, size: int) -> None:
        self._model.truncate(inode, size)
        node = self._model.nodes[inode]
        node.mtime = node.ctime = time.time_ns()

    def _changed(self, path: str) -> Node:
        node = self._model.nodes[self._model.resolve(path)]
        node.ctime = time.time_ns()
        return node


class _Mount(mfusepy.FUSE):
    """Hands over the handle, too, where the kernel has one and libfuse therefore has no path."""

    def truncate_fuse_3(self, path: bytes | None, length: int, info: Any) -> int:
        return self.ftruncate(path, length, info)


def main(mounted: Path, backing: Path, rule: Rule) -> None:
    """Serve until the input ends."""
    # Whoever started it may be killed.
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGTERM)
    store = FolderStore(backing)
    model = Model(store, rule)
    there = mounted.stat()
    root = model.nodes[ROOT]
    root.mode, root.uid, root.gid = there.st_mode, there.st_uid, there.st_gid
    lost = None
    while True:
        _Mount(
            ForgetfulOperations(model, store, lost), str(mounted), fsname="forgetful",
            foreground=True, nothreads=True, default_permissions=True, allow_other=os.geteuid() == 0,
        )  # fmt: skip
        line = sys.stdin.readline()
        if not line:
            return
        seed, share_kept = orjson.loads(line)
        lost = model.cut(random.Random(seed), share_kept=share_kept)  # noqa: S311 -- to be repeated


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), cast("Rule", sys.argv[3]))
