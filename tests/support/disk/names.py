"""The names in folders: those that are on the disk, those that processes see, and the operations between the two. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.support.disk.lost import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from tests.support.disk.contents import Rule

Entry = tuple[int, str]
"""The inode of a folder, and a name in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """What is on the disk as a whole or not at all: file systems do not leave half a rename behind."""

    kind: Literal["create", "remove", "rename", "truncate"]
    changes: tuple[tuple[Entry, int | None], ...] = ()
    """Each entry, and the inode that it leads to from now on; None: it is gone."""
    truncated: tuple[int, int] | None = None
    """Inode and size. Only a journal knows of it."""


class Names:
    """Folders are known by their inodes; `seen` of a folder is what processes see."""

    def __init__(self, *, on_truncated: Callable[[int, int], None]) -> None:
        """Start without folders. Args: called with inode and size when a truncation is on the disk."""
        self._on_truncated = on_truncated
        self.seen: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._synced: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._pending: list[Operation] = []
        self._kept: Counter[int] = Counter()
        """Inode -> how many names that a power cut may bring back lead to it."""

    def may_come_back(self, inode: int) -> bool:
        """Whether a power cut may give a name to this inode, though it has none now."""
        return self._kept[inode] > 0

    @property
    def is_synced(self) -> bool:
        return not self._pending

    def synced(self, folder: int) -> list[int]:
        """The inodes that the names of a folder on the disk lead to."""
        return list(self._synced.get(folder, {}).values())

    def do(self, operation: Operation) -> None:
        """Processes see it from now on."""
        for (folder, name), inode in operation.changes:
            _set(self.seen[folder], name, inode)
            if inode is not None:
                self._kept[inode] += 1
        self._pending.append(operation)

    def sync_all(self) -> list[int]:
        """All operations are on the disk. Returns the inodes to which a name less leads."""
        done, self._pending = self._pending, []
        return self._put_on_disk(done)

    def sync_folder(self, folder: int) -> list[int]:
        """Those of this folder, and those that they build on. Returns as `sync_all`."""
        done, left = [], []
        entries: set[Entry] = set()
        for operation in reversed(self._pending):
            touched = {entry for entry, _ in operation.changes}
            if any(of == folder for of, _ in touched) or touched & entries:
                entries |= touched
                done.append(operation)
            else:
                left.append(operation)
        self._pending = left[::-1]
        return self._put_on_disk(done[::-1])

    def cut(self, random: Random, rule: Rule, *, share_kept: float | None = None) -> Lost:
        """Some operations had come to the disk by themselves; the others are lost. Args: as of `Contents.cut`."""
        if share_kept is None:
            share_kept = random.choice((0.0, 0.5, 0.9, 1.0))
        if rule == "journal":
            # A random length has any share behind it.
            all_of_them = len(self._pending)
            count = (
                int(share_kept) * all_of_them if share_kept in {0.0, 1.0} else random.randint(0, all_of_them)
            )
            done, lost = self._pending[:count], self._pending[count:]
        else:
            done, lost = _any_of(self._pending, random, share_kept)
        self._put_on_disk(done)
        self._pending = []
        self.seen = defaultdict(dict, {folder: dict(names) for folder, names in self._synced.items()})
        self._kept = Counter(inode for names in self._synced.values() for inode in names.values())
        return Lost(
            names=sum(len(one.changes) for one in lost if one.kind in {"create", "remove"}),
            renames=sum(one.kind == "rename" for one in lost),
        )

    def forget(self, folders: Iterable[int]) -> None:
        """These folders are gone for good."""
        for folder in folders:
            self.seen.pop(folder, None)
            self._kept.subtract(self._synced.pop(folder, {}).values())

    def _put_on_disk(self, operations: Iterable[Operation]) -> list[int]:
        fewer = []
        for operation in operations:
            for (folder, name), inode in operation.changes:
                names = self._synced[folder]
                if (before := names.get(name)) is not None:
                    self._kept[before] -= 1
                    fewer.append(before)
                _set(names, name, inode)
            if operation.truncated is not None:
                self._on_truncated(*operation.truncated)
        return fewer


def _any_of(
    operations: list[Operation], random: Random, share_kept: float
) -> tuple[list[Operation], list[Operation]]:
    """Any, except that of those on one entry none is there without the earlier ones."""
    done, lost = [], []
    without: set[Entry] = set()
    for operation in operations:
        touched = {entry for entry, _ in operation.changes}
        if random.random() < share_kept and not touched & without:
            done.append(operation)
        else:
            without |= touched
            lost.append(operation)
    return done, lost


def _set(names: dict[str, int], name: str, inode: int | None) -> None:
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode
