"""The room of the spool's file: what was drained can be filled again, and a disk gets back what is not needed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import disk_space, stall, thread
from bridge.spool.errors import SpoolFullError
from bridge.spool.spool import Spool
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bridge.spool.entries import SpoolEntry

pytestmark = pytest.mark.quick

PATIENCE_SECONDS = 90
MIB = 1024**2
LARGE = b"x" * 64 * 1024


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow is waited for: here it is its room that matters."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60.0)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(thread, name, 15.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def opened(folder: Path, *, min_free_bytes: int) -> AsyncIterator[Spool]:
    settings = SpoolSettings(directory=folder, min_free_bytes=min_free_bytes)
    async with asyncio.timeout(PATIENCE_SECONDS), Spool.open(settings) as spool:
        yield spool


@contextmanager
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch, *, size: int) -> Iterator[None]:
    """A disk of its own for this folder; where we may not mount one, what is free is counted as on such a one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    with monkeypatch.context() as patched:
        patched.setattr(disk_space, "free_bytes", lambda path: size - taken(path.parent))
        yield


def taken(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def fill(spool: Spool) -> list[SpoolEntry]:
    """Until it is refused; what it took."""
    entries: list[SpoolEntry] = []
    while True:
        try:
            entries.append(await spool.put(0, LARGE))
        except SpoolFullError:
            return entries


async def test_a_spool_that_was_full_and_is_drained_takes_the_next_outage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `min_free_bytes` was hit, the next outage fits as well; and then the disk gets its room back."""
    with disk(folder, monkeypatch, size=32 * MIB):
        async with opened(folder, min_free_bytes=16 * MIB) as spool:
            first = await fill(spool)
            assert "spool.min_free_bytes" in spool.state.reason
            await spool.remove(first)
            await eventually(lambda: spool.state.writable)
            second = await fill(spool)
            assert len(second) >= len(first) * 0.9
            await spool.remove(second)
            await eventually(lambda: taken(folder) < MIB)
            assert len(await fill(spool)) >= len(first) * 0.9


async def test_pages_that_are_free_in_the_file_are_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that others have filled meanwhile, what was drained can be filled again, and not more."""
    with disk(folder, monkeypatch, size=64 * MIB):
        async with opened(folder, min_free_bytes=0) as spool:
            entries = [await spool.put(number, LARGE) for number in range(100)]
            monkeypatch.setattr(disk_space, "free_bytes", lambda _: 1)
            monkeypatch.setattr(spool._thread.file._claimed.file, "_min_free_bytes", 1024)
            with pytest.raises(SpoolFullError, match=r"spool\.min_free_bytes"):
                await spool.put(1000, LARGE)
            await spool.remove(entries[:50])
            await eventually(lambda: spool.state.writable)
            again = await fill(spool)
            assert 45 <= len(again) <= 50
            assert len(await spool.read(0, 1000)) == 50 + len(again)


async def test_a_large_file_that_holds_much_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making it smaller would copy what is in it, and everybody would wait."""
    with disk(folder, monkeypatch, size=64 * MIB):
        async with opened(folder, min_free_bytes=0) as spool:
            entries = [await spool.put(number, LARGE) for number in range(200)]
            await spool.remove(entries[:150])
            file = spool._thread.file._claimed.file
            assert file is not None
            assert not disk_space.is_too_large(file._connection, file.path)
            await spool.remove(entries[150:])
            await eventually(lambda: taken(folder) < MIB)
