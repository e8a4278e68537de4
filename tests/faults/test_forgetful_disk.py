"""The forgetful disk, mounted: system calls do what they do on any disk, and a power cut takes what no fsync has kept."""

from __future__ import annotations

import asyncio
import mmap
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.disk.mounting import FUSE_MISSING, forgetful_disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.disk.mounting import Disk

pytestmark = pytest.mark.skipif(FUSE_MISSING is not None, reason=str(FUSE_MISSING))

# What touches the mounted folder blocks until the server, a process of its own, has answered: the loop may wait for it.


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    """One that draws what the tests expect of it."""
    async with forgetful_disk(tmp_path, seed=2) as disk:
        yield disk


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())


async def test_a_program_that_syncs_file_and_folder_loses_nothing(disk: Disk) -> None:
    """Over several cuts, each of which loses what was not synced since the last."""
    for number in range(4):
        new = disk.path / "new"
        new.write_bytes(b"%d" % number * 10_000)
        _sync(new)
        new.rename(disk.path / "kept")
        _sync(disk.path)
        (disk.path / "lost").write_bytes(b"x")
        await disk.cut()
        assert (disk.path / "kept").read_bytes() == b"%d" % number * 10_000


async def test_a_full_disk_takes_nothing_more(disk: Disk) -> None:
    """Neither a new file nor more in one that is there; what is there can be written over, and has room again later."""
    kept = disk.path / "kept"
    kept.write_bytes(b"x" * 10_000)
    _sync(kept)
    await disk.fill()
    assert os.statvfs(disk.path).f_bavail == 0
    with pytest.raises(OSError, match="No space left on device"):
        (disk.path / "new").write_bytes(b"x")
    with pytest.raises(OSError, match="No space left on device"):
        _append(kept, b"x" * 10_000)
    with kept.open("r+b", buffering=0) as file:
        file.write(b"y" * 5_000)
        os.fsync(file.fileno())
    await disk.fill(full=False)
    _append(kept, b"z")
    assert kept.read_bytes()[:6_000] == b"y" * 5_000 + b"x" * 1_000


async def test_a_program_that_syncs_nothing_loses(disk: Disk) -> None:
    """Some of it, sooner or later all of it; and the figures say what."""
    losses = []
    for number in range(8):
        (disk.path / f"file-{number}").write_bytes(b"x" * 50_000)
        losses.append(await disk.cut())
    assert any(lost.names for lost in losses)
    assert any(lost.pages_dropped or lost.pages_torn for lost in losses)
    whole = [path for path in disk.path.iterdir() if path.read_bytes() == b"x" * 50_000]
    assert len(whole) < 8


async def test_every_way_to_sync_counts(disk: Disk) -> None:
    """fdatasync, O_SYNC, O_DSYNC, msync of a mapping; of a file whose name is on the disk."""
    for name, flags in {"plain": 0, "sync": os.O_SYNC, "dsync": os.O_DSYNC}.items():
        descriptor = os.open(disk.path / name, os.O_RDWR | os.O_CREAT | flags)
        os.write(descriptor, b"x" * 10_000)
        if not flags:
            os.fdatasync(descriptor)
        os.close(descriptor)
    descriptor = os.open(disk.path / "mapped", os.O_RDWR | os.O_CREAT)
    os.truncate(descriptor, 10_000)
    with mmap.mmap(descriptor, 10_000) as mapping:
        mapping[:] = b"x" * 10_000
        mapping.flush()
    os.close(descriptor)
    _sync(disk.path)
    await disk.cut()
    for name in ("plain", "sync", "dsync", "mapped"):
        assert (disk.path / name).read_bytes() == b"x" * 10_000, name


_INSERT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA synchronous = " + sys.argv[2])
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")
connection.execute("INSERT INTO numbers VALUES (?)", (int(sys.argv[3]),))
os._exit(0)  # it is killed: a close would write more
"""


@pytest.mark.parametrize("synchronous", ["OFF", "FULL"])
async def test_sqlite_keeps_what_it_promises(disk: Disk, synchronous: str) -> None:
    """What was committed with `synchronous = FULL` is there; with OFF it is not, sooner or later."""
    path = disk.path / "database"
    kept = []
    for number in range(5):
        command = [sys.executable, "-c", _INSERT, str(path), synchronous, str(number)]
        await asyncio.to_thread(subprocess.check_call, command)
        await disk.cut()
        kept.append(_numbers(path) == list(range(number + 1)))
        if not kept[-1]:
            break
    assert all(kept) == (synchronous == "FULL")


def _numbers(path: Path) -> list[int]:
    """Empty where the table is lost, or the file is none of SQLite's any more."""
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.DatabaseError):
        return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]
    return []
