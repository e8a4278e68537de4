"""The forgetful disk: which names a power cut leaves, with which file behind them."""

from __future__ import annotations

import errno
import re
import stat
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.disk.memory_store import MemoryStore
from tests.support.disk.model import ROOT, Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.disk.contents import Rule
    from tests.support.disk.lost import Lost

SEEDS = range(60)
RULES: list[Rule] = ["posix", "journal"]
FOLDER = stat.S_IFDIR | 0o755


class Disk:
    """A model, by paths."""

    def __init__(self, rule: Rule = "posix") -> None:
        self.store = MemoryStore()
        self.model = Model(self.store, rule)

    def write(self, path: str, data: bytes, *, sync: bool = True) -> None:
        """Create it where it is not there."""
        folder, name = self.model.resolve_parent(path)
        inode = self.model.names(folder).get(name) or self.model.create(folder, name, 0o644)
        self.model.write(inode, data, 0)
        if sync:
            self.model.sync_file(inode)

    def make_folder(self, path: str) -> None:
        self.model.create(*self.model.resolve_parent(path), FOLDER)

    def sync_folder(self, path: str) -> None:
        self.model.sync_folder(self.model.resolve(path))

    def rename(self, old: str, new: str) -> None:
        self.model.rename(self.model.resolve_parent(old), self.model.resolve_parent(new))

    def remove(self, path: str) -> None:
        self.model.remove(*self.model.resolve_parent(path))

    def read(self, path: str) -> bytes | None:
        """None: there is no such name."""
        try:
            inode = self.model.resolve(path)
        except FileNotFoundError:
            return None
        return self.store.bytes_of(inode)

    def cut(self, seed: int) -> Lost:
        return self.model.cut(Random(seed))  # noqa: S311 -- to be repeated


def _results(*paths: str, do: object, rule: Rule = "posix") -> set[tuple[bytes | None, ...]]:
    """What is read there after power cuts of all seeds."""
    assert callable(do)
    found = set()
    for seed in SEEDS:
        disk = Disk(rule)
        do(disk)
        disk.cut(seed)
        found.add(tuple(disk.read(path) for path in paths))
    return found


def test_an_fsync_of_the_file_does_not_keep_its_name() -> None:
    """Under `posix`: the file may be gone, as if it had never been there; what is there of it is whole."""
    assert _results("/a", do=lambda disk: disk.write("/a", b"x")) == {(None,), (b"x",)}


def test_a_journal_keeps_the_name_with_the_file() -> None:
    """As ext4 and XFS do."""
    assert _results("/a", do=lambda disk: disk.write("/a", b"x"), rule="journal") == {(b"x",)}


@pytest.mark.parametrize("rule", RULES)
def test_a_program_that_syncs_both_keeps_both(rule: Rule) -> None:
    """File and folder: nothing is lost, whatever the rule."""

    def do(disk: Disk) -> None:
        disk.write("/a", b"x")
        disk.sync_folder("/")

    assert _results("/a", do=do, rule=rule) == {(b"x",)}


@pytest.mark.parametrize("rule", RULES)
def test_a_program_that_syncs_nothing_loses(rule: Rule) -> None:
    """The name, the data, or neither: never is it sure."""
    found = _results("/a", do=lambda disk: disk.write("/a", b"x", sync=False), rule=rule)
    assert {(None,), (b"",), (b"x",)} <= found


def test_a_name_in_a_new_folder_takes_the_folders_name_too() -> None:
    """An fsync of a folder puts the names in it on the disk, not its own: with that, all in it may be lost."""

    def do(disk: Disk) -> None:
        disk.make_folder("/d")
        disk.write("/d/a", b"x")
        disk.sync_folder("/d")

    assert _results("/d/a", do=do) == {(None,), (b"x",)}

    def do_both(disk: Disk) -> None:
        do(disk)
        disk.sync_folder("/")

    assert _results("/d/a", do=do_both) == {(b"x",)}


def _replace(disk: Disk) -> None:
    disk.write("/a", b"old")
    disk.sync_folder("/")
    disk.write("/new", b"new")
    disk.rename("/new", "/a")


def test_a_rename_is_whole_or_not_at_all() -> None:
    """The old file or the new one; where the folder is not synced the new one may be under either name, or none."""
    assert _results("/a", "/new", do=_replace) == {(b"old", None), (b"old", b"new"), (b"new", None)}


def test_a_synced_rename_stays() -> None:
    """And with it what it builds on."""

    def do(disk: Disk) -> None:
        _replace(disk)
        disk.sync_folder("/")

    assert _results("/a", "/new", do=do) == {(b"new", None)}


def test_a_rename_before_the_data_is_synced_leads_to_a_broken_file() -> None:
    """The classic mistake: the name is there, and the data is not."""

    def do(disk: Disk) -> None:
        disk.write("/a", b"old")
        disk.sync_folder("/")
        disk.write("/new", b"new", sync=False)
        disk.rename("/new", "/a")
        disk.sync_folder("/")

    assert _results("/a", do=do) >= {(b"",), (b"new",)}


def test_a_rename_between_folders_is_synced_by_either() -> None:
    """It is one operation: the file is not under both names, and not under none."""

    def do(disk: Disk) -> None:
        disk.make_folder("/d")
        disk.write("/a", b"x")
        disk.sync_folder("/")
        disk.rename("/a", "/d/a")

    def do_synced(disk: Disk) -> None:
        do(disk)
        disk.sync_folder("/d")

    assert _results("/a", "/d/a", do=do) == {(b"x", None), (None, b"x")}
    assert _results("/a", "/d/a", do=do_synced) == {(None, b"x")}


def test_a_removed_file_may_be_there_again() -> None:
    """Whole, until its folder is synced; then its bytes are given back."""
    disk = Disk()
    disk.write("/a", b"x")
    disk.sync_folder("/")
    disk.remove("/a")
    assert disk.store.inodes
    disk.sync_folder("/")
    assert not disk.store.inodes

    def do(disk: Disk) -> None:
        disk.write("/a", b"x")
        disk.sync_folder("/")
        disk.remove("/a")

    assert _results("/a", do=do) == {(None,), (b"x",)}


def test_operations_are_lost_in_any_combination_but_one_name_s_in_order() -> None:
    """Under `posix` a later one may be there without an earlier one of another name, with a journal never."""

    def do(disk: Disk) -> None:
        disk.write("/a", b"1", sync=False)
        disk.write("/b", b"2", sync=False)

    there = {
        rule: {tuple(one is not None for one in found) for found in _results("/a", "/b", do=do, rule=rule)}
        for rule in RULES
    }
    assert there["posix"] == {(False, False), (True, False), (False, True), (True, True)}
    assert there["journal"] == {(False, False), (True, False), (True, True)}


def test_an_fsync_of_one_file_syncs_the_journal_only() -> None:
    """Names and truncations of the others before it are there, what was written to them need not be."""

    def do(disk: Disk) -> None:
        disk.write("/a", b"aaaa")
        disk.write("/b", b"b", sync=False)
        disk.model.truncate(disk.model.resolve("/a"), 2)
        disk.write("/c", b"c")

    found = _results("/a", "/b", "/c", do=do, rule="journal")
    assert found == {(b"aa", b"", b"c"), (b"aa", b"b", b"c")}


def test_an_open_file_without_a_name_keeps_its_bytes() -> None:
    """Until it is closed."""
    disk = Disk()
    disk.write("/a", b"x")
    disk.sync_folder("/")
    inode = disk.model.resolve("/a")
    disk.model.opened(inode)
    disk.remove("/a")
    disk.sync_folder("/")
    disk.model.write(inode, b"y", 1)
    assert disk.store.bytes_of(inode) == b"xy"
    disk.model.closed(inode)
    assert not disk.store.inodes


def test_after_a_cut_nothing_is_left_to_lose() -> None:
    """A second cut at once takes nothing, and links are counted anew."""
    disk = Disk()
    disk.make_folder("/d")
    disk.write("/d/a", b"x" * 10_000, sync=False)
    disk.model.link(disk.model.resolve("/d/a"), ROOT, "b")
    disk.cut(5)
    before = {path: disk.read(path) for path in ("/d/a", "/b")}
    assert not any(vars_of(disk.cut(6)))
    assert {path: disk.read(path) for path in before} == before
    for path, content in before.items():
        if content is not None:
            assert disk.model.nodes[disk.model.resolve(path)].links == sum(
                one is not None for one in before.values()
            )


def test_all_is_synced_at_once_where_time_has_passed() -> None:
    """As the system does by itself."""
    disk = Disk()
    disk.make_folder("/d")
    disk.write("/d/a", b"x", sync=False)
    disk.model.sync_all()
    disk.cut(0)
    assert disk.read("/d/a") == b"x"


def test_what_cannot_be_done_is_refused_as_by_the_system() -> None:
    """With the system's numbers."""
    disk = Disk()
    disk.make_folder("/d")
    disk.write("/d/a", b"x")
    refusals: dict[int, Callable[[], None]] = {
        errno.ENOTEMPTY: lambda: disk.remove("/d"),
        errno.EEXIST: lambda: disk.make_folder("/d"),
        errno.ENOENT: lambda: disk.remove("/b"),
        errno.EISDIR: lambda: disk.model.write(disk.model.resolve("/d"), b"x", 0),
    }
    for number, call in refusals.items():
        with pytest.raises(OSError, match=re.escape(f"[Errno {number}]")):
            call()


def vars_of(lost: Lost) -> tuple[int, ...]:
    return (lost.pages_dropped, lost.pages_torn, lost.sizes, lost.names, lost.renames)
