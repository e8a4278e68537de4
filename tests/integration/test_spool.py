"""The spool on a real disk: killed processes, limits, disks that are full, folders that are gone, corrupt files."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import stall, thread
from bridge.spool.entries import OVERHEAD
from bridge.spool.errors import SpoolError, SpoolFullError
from bridge.spool.listing import read_contents
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bridge.spool.entries import SpoolEntry

pytestmark = pytest.mark.quick

BODY = b'{"message": {"id": 1}, "event": {"name": "opened", "timestamp": 1539062173}}'
LARGE = b"x" * 64 * 1024
PATIENCE_SECONDS = 90

PUT_FOR_EVER = """
import asyncio, itertools, sys
from pathlib import Path
from bridge.spool import stall
from bridge.spool.spool import Spool
from bridge.settings.sections import Spool as SpoolSettings

async def put(spool, number):
    entry = await spool.put(number, b"%d" % number)
    print("put", number, flush=True)
    if number % 3 == 0:
        await spool.remove([entry])
        print("removed", number, flush=True)

async def main():
    async with Spool.open(SpoolSettings(directory=Path(sys.argv[1]), min_free_bytes=0)) as spool:
        for start in itertools.count(0, 50):
            await asyncio.gather(*(put(spool, number) for number in range(start, start + 50)))

stall.STALLED_SECONDS = 3600  # a slow disk is none that hangs
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow for a while, as that of a busy machine, is none that hangs: that has tests of its own."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", 3600)
    monkeypatch.setattr(thread, "_OPENING_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(thread, "_ENDING_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def opened(folder: Path, *, max_bytes: int = 1024**3, min_free_bytes: int = 0) -> AsyncIterator[Spool]:
    """A spool in this folder; nothing that is asked of it may wait for ever."""
    settings = SpoolSettings(directory=folder, max_bytes=max_bytes, min_free_bytes=min_free_bytes)
    async with asyncio.timeout(PATIENCE_SECONDS), Spool.open(settings) as spool:
        yield spool


async def bodies(spool: Spool) -> list[bytes]:
    return [entry.body for entry in await spool.read(0, 100_000)]


async def fill(spool: Spool) -> tuple[list[SpoolEntry], str]:
    """Put large events until one is refused; those that were not, and the reason."""
    entries: list[SpoolEntry] = []
    while True:
        try:
            entries.append(await spool.put(0, LARGE))
        except SpoolFullError as full:
            return entries, str(full)


def block(folder: Path) -> None:
    """A regular file where the folder is to be: nobody, root neither, can write into that."""
    folder.write_bytes(b"a regular file")


def unblock(folder: Path) -> None:
    folder.unlink()


def remove(folder: Path, *, blocking: bool = False) -> None:
    """At once: the spool looks after its file all the time, and would make a new one in a folder that is being emptied."""
    removed = folder.rename(folder.with_name("removed"))
    if blocking:
        block(folder)
    shutil.rmtree(removed)


def aside(folder: Path) -> list[Path]:
    """The databases that were set aside."""
    return list(folder.glob("spool-0.sqlite3.corrupt-*[0-9]"))


@contextmanager
def refusing(spool: Spool) -> Iterator[None]:
    """A disk that refuses every write, as a file system does that was remounted read-only."""
    file = spool._thread.file._claimed.file
    assert file is not None
    file._connection.execute("PRAGMA query_only = 1")
    yield
    file._connection.execute("PRAGMA query_only = 0")


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of 1 MiB at this folder; whether this process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_room(filler: Path) -> None:
    filler.unlink()


def limit_pages(spool: Spool, pages: int) -> None:
    file = spool._thread.file._claimed.file
    assert file is not None
    file._connection.execute(f"PRAGMA max_page_count = {pages}")


def commits(file: Path) -> int:
    """How many commits are in the write-ahead log: frames that carry the size of the database.

    https://www.sqlite.org/fileformat2.html#the_write_ahead_log
    """
    log = file.with_name(f"{file.name}-wal").read_bytes()
    page, salt = int.from_bytes(log[8:12], "big"), log[16:24]
    frames = (log[start : start + 24] for start in range(32, len(log), 24 + page))
    return sum(frame[8:16] == salt and struct.unpack(">I", frame[4:8])[0] > 0 for frame in frames)


async def test_what_put_returned_for_outlives_a_kill(folder: Path) -> None:
    """SIGKILL in the middle of the work: every put that returned is there, no removal that returned is undone."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUT_FOR_EVER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    said = [await child.stdout.readline() for _ in range(5000)]
    child.send_signal(signal.SIGKILL)
    said += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    whole = [line.split() for line in said if line.endswith(b"\n")]
    put = {int(number) for what, number in whole if what == b"put"}
    removed = {int(number) for what, number in whole if what == b"removed"}
    async with opened(folder) as spool:
        entries = await spool.read(0, 100_000)
        assert all(entry.body == b"%d" % entry.received_at for entry in entries)
        numbers = [entry.received_at for entry in entries]
        assert numbers == sorted(set(numbers))
        assert put - set(numbers) - {number for number in put if number % 3 == 0} == set()
        assert removed & set(numbers) == set()
        assert spool.state.entries == len(entries)
        assert spool.has_entries.is_set(), "there is something to drain"


async def test_many_puts_share_a_commit(folder: Path) -> None:
    """Five hundred events that wait together cost a few fsyncs, and stay in the order in which they came."""
    async with opened(folder) as spool:
        before = commits(spool.paths[0])
        await asyncio.gather(*(spool.put(0, b"%d" % number) for number in range(500)))
        assert 1 <= commits(spool.paths[0]) - before <= 50
        assert await bodies(spool) == [b"%d" % number for number in range(500)]


async def test_one_put_is_one_commit(folder: Path) -> None:
    """Nothing is held back to be written later."""
    async with opened(folder) as spool:
        before = commits(spool.paths[0])
        for number in range(3):
            await spool.put(number, BODY)
            assert commits(spool.paths[0]) == before + number + 1


async def test_the_folder_is_made_when_it_is_missing(folder: Path) -> None:
    """With its parents."""
    async with opened(folder / "deep" / "down") as spool:
        await spool.put(0, BODY)
        assert read_contents(folder / "deep" / "down" / "spool-0.sqlite3").entries == 1


async def test_max_bytes_is_a_limit_until_something_is_removed(folder: Path) -> None:
    """A put beyond it is refused with the setting's name; what was removed makes room."""
    async with opened(folder, max_bytes=1024**2) as spool:
        entries, reason = await fill(spool)
        assert "spool.max_bytes" in reason
        assert len(entries) == 1024**2 // (len(LARGE) + OVERHEAD)
        full = spool.state
        assert not full.writable
        assert "spool.max_bytes" in full.reason
        await spool.remove(entries[:1])
        assert spool.state.writable
        await spool.put(0, LARGE)


async def test_max_bytes_holds_for_those_that_come_at_once(folder: Path) -> None:
    """Events that are not committed yet count as well."""
    async with opened(folder, max_bytes=1024**2) as spool:
        puts = await asyncio.gather(*(spool.put(0, LARGE) for _ in range(100)), return_exceptions=True)
        assert {type(put) for put in puts if isinstance(put, BaseException)} == {SpoolFullError}
        assert 0 < spool.state.bytes <= 1024**2
        assert len(await bodies(spool)) == sum(not isinstance(put, BaseException) for put in puts)


async def test_min_free_bytes_keeps_the_disk_from_filling(folder: Path) -> None:
    """Below the minimum every event is refused, and the state says which setting it is."""
    free = shutil.disk_usage(folder.parent).free
    async with opened(folder, min_free_bytes=free * 10) as spool:
        with pytest.raises(SpoolFullError, match=r"spool\.min_free_bytes"):
            await spool.put(0, BODY)
        assert not spool.state.writable
        assert "spool.min_free_bytes" in spool.state.reason
        assert await bodies(spool) == []


async def test_a_full_disk_refuses_events_and_keeps_those_it_has(folder: Path) -> None:
    """What was answered for stays readable; when there is room again, the spool says so without being asked."""
    with small_disk(folder) as mounted:
        filler = folder / "filler"
        filler.write_bytes(bytes(512 * 1024))
        async with opened(folder) as spool:
            if not mounted:  # SQLite's limit of pages answers as a full disk does
                limit_pages(spool, 50)
            with capture_logs() as said:
                kept, reason = await fill(spool)
            assert "the disk is full; make room" in reason
            # It may have found out already that it can write again: SQLite's limit lets it, where there is no such disk.
            assert said[0]["action"] == "spool.unwritable"
            assert await spool.read(0, 100) == kept
            make_room(filler)
            limit_pages(spool, 1_000_000)
            await eventually(lambda: spool.state.writable)
            await spool.put(10, BODY)
            assert await bodies(spool) == [*(entry.body for entry in kept), BODY]


async def test_a_disk_that_refuses_is_logged_and_tried_again(folder: Path) -> None:
    """The put fails with the reason, the state shows it, and it ends by itself when the disk takes events again."""
    async with opened(folder) as spool:
        with refusing(spool):
            with pytest.raises(SpoolError, match="readonly"), capture_logs() as said:
                await spool.put(0, BODY)
            assert not spool.state.writable
            assert "readonly" in spool.state.reason
            assert [one["action"] for one in said] == ["spool.unwritable"]
        await eventually(lambda: spool.state.writable)
        assert spool.state.reason == ""
        await spool.put(0, BODY)
        assert await bodies(spool) == [BODY]


async def test_a_removal_that_the_disk_refused_is_done_later(folder: Path) -> None:
    """Until then the entry is not shown, or the drain would publish it over and over."""
    async with opened(folder) as spool:
        entries = [await spool.put(number, b"%d" % number) for number in range(5)]
        with refusing(spool):
            await spool.remove(entries[:4])
            assert await spool.read(0, 2) == entries[4:]
            assert read_contents(spool.paths[0]).entries == 5
        await eventually(lambda: spool.state.entries == 1)
        assert len(spool._thread.file._removals) == 0, "nor does it grow"
        assert read_contents(spool.paths[0]).entries == 1
        assert await spool.read(0, 10) == entries[4:]


@pytest.mark.parametrize("below", ["", "below"])
async def test_a_folder_that_cannot_be_used_does_not_stop_the_process(folder: Path, below: str) -> None:
    """Every put is refused with the setting to change; once the folder can be used, the spool takes it."""
    block(folder)
    with capture_logs() as said:
        async with opened(folder / below) as spool:
            assert not spool.state.writable
            assert "spool.directory" in spool.state.reason
            for _ in range(10):
                with pytest.raises(SpoolError, match=r"spool\.directory must be writable"):
                    await spool.put(0, BODY)
            assert await bodies(spool) == []
            assert [one["action"] for one in said] == ["spool.unusable"], "once, not for each event"
            unblock(folder)
            await eventually(lambda: spool.state.writable)
            await spool.put(0, BODY)
            assert await bodies(spool) == [BODY]


async def test_a_folder_that_somebody_removes_is_made_anew(folder: Path) -> None:
    """No event goes into a file that has no name any more."""
    async with opened(folder) as spool:
        await spool.put(0, b"removed with the folder")
        with capture_logs() as said:
            remove(folder)
            await spool.put(0, BODY)
        assert [(one["action"], one["entries"]) for one in said] == [("spool.replaced", 1)]
        assert await bodies(spool) == [b"removed with the folder", BODY]
        assert read_contents(folder / "spool-0.sqlite3").entries == 2


async def test_two_spools_on_one_folder_have_a_file_each(folder: Path) -> None:
    """Neither sees the other's entries."""
    async with opened(folder) as one, opened(folder) as other:
        await one.put(0, b"one")
        await other.put(0, b"other")
        assert [one.paths[0].name, other.paths[0].name] == ["spool-0.sqlite3", "spool-1.sqlite3"]
        assert await bodies(one) == [b"one"]
        assert await bodies(other) == [b"other"]


async def test_a_corrupt_file_at_the_start_is_set_aside(folder: Path) -> None:
    """The process starts all the same, with an empty spool, and the log says where the old file is."""
    async with opened(folder) as spool:
        await spool.put(0, BODY)
    file = folder / "spool-0.sqlite3"
    garbage = b"garbage!" * 2000
    file.write_bytes(garbage)
    with capture_logs() as said:
        async with opened(folder) as spool:
            assert spool.state.writable
            await spool.put(0, b"new")
            assert await bodies(spool) == [b"new"]
    [kept] = aside(folder)
    assert kept.read_bytes() == garbage
    [event] = [one for one in said if one["action"] == "spool.corrupt"]
    assert (event["log_level"], event["renamed_to"]) == ("error", str(kept))


@pytest.mark.parametrize("noticed_by", ["read", "remove", "put"])
async def test_a_file_that_goes_bad_while_it_is_used_is_set_aside(folder: Path, noticed_by: str) -> None:
    """Whoever notices it: no put fails, the process goes on with a new file, the old one is kept."""
    async with opened(folder) as spool:
        entries = await asyncio.gather(*(spool.put(0, os.urandom(3000)) for _ in range(2000)))
    async with opened(folder) as spool:
        path, size = spool.paths[0], spool.paths[0].stat().st_size
        with path.open("r+b") as database:
            database.seek(4096)
            database.write(os.urandom(size - 2 * 4096))
        with capture_logs() as said:
            if noticed_by == "read":
                assert await bodies(spool) == []
            elif noticed_by == "remove":
                await spool.remove(entries)
            await spool.put(0, BODY)
        assert [one["action"] for one in said] == ["spool.corrupt"]
        assert "it had 2000 entries" in said[0]["reason"]
        assert await bodies(spool) == [BODY]
        assert spool.state.writable
        assert (spool.state.entries, read_contents(path).entries) == (1, 1)
    assert [kept.stat().st_size for kept in aside(folder)] == [size]


async def test_a_corrupt_file_that_cannot_be_set_aside_does_not_end_the_spool(folder: Path) -> None:
    """Puts are refused with the reason, none of them waits for ever, and it ends when the folder is mended."""
    async with opened(folder) as spool:
        await spool.put(0, BODY)
        remove(folder, blocking=True)
        for _ in range(3):
            with pytest.raises(SpoolError):
                await spool.put(0, BODY)
        unblock(folder)
        await eventually(lambda: spool.state.writable)
        await spool.put(0, b"mended")
        assert await bodies(spool) == [BODY, b"mended"]


async def test_held_entries_are_marked_until_they_are_released(folder: Path) -> None:
    """They are on the disk like all others; `release` wakes the drain."""
    async with opened(folder) as spool:
        held = await spool.put(0, b"held", held=True)
        free = await spool.put(0, b"free")
        assert (spool.is_held(held), spool.is_held(free)) == (True, False)
        assert await spool.read(0, 10) == [held, free]
        spool.has_entries.clear()
        spool.release(held)
        assert not spool.is_held(held)
        assert spool.has_entries.is_set()


async def test_a_refused_put_leaves_nothing_held(folder: Path) -> None:
    """What is not in the spool cannot be kept from the drain."""
    async with opened(folder) as spool:
        with refusing(spool), pytest.raises(SpoolError):
            await spool.put(0, BODY, held=True)
        assert spool._held == set()


async def test_a_settled_entry_is_gone_with_the_next_commit(folder: Path) -> None:
    """A late confirm takes it away for good, and nobody has to wait for that."""
    async with opened(folder) as spool:
        entry = await spool.put(0, BODY, held=True)
        spool.remove_confirmed(entry)
        assert await bodies(spool) == []
        assert (spool.state.entries, spool.state.bytes, spool.state.oldest) == (0, 0, None)
        assert not spool.is_held(entry)


async def test_closing_answers_every_put_that_waits(folder: Path) -> None:
    """And each that was answered with success is there for the next process."""
    async with opened(folder) as spool:
        puts = [asyncio.create_task(spool.put(0, b"%d" % number)) for number in range(1000)]
        await asyncio.sleep(0)
    assert all(put.done() and put.exception() is None for put in puts)
    async with opened(folder) as spool:
        assert await bodies(spool) == [b"%d" % number for number in range(1000)]


async def test_a_clock_that_was_set_back_does_not_change_the_order(folder: Path) -> None:
    """What a process finds in its file is older than what comes, whatever the clock says."""
    future = (time.time_ns() // 1000) + 3600 * 1_000_000
    async with opened(folder) as spool:
        spool._last_id = future
        first = await spool.put(0, b"first")
    async with opened(folder) as spool:
        second = await spool.put(0, b"second")
        assert first.id < second.id
        assert await bodies(spool) == [b"first", b"second"]


async def test_the_state_tells_how_long_the_oldest_has_waited(folder: Path) -> None:
    """In seconds since it was received; nothing when the spool is empty."""
    now = time.time_ns() // 1_000_000
    async with opened(folder) as spool:
        assert spool.state.oldest_age == 0
        oldest = await spool.put(now - 60_000, BODY)
        await spool.put(now, BODY)
        assert 60 <= spool.state.oldest_age < 120
        await spool.remove([oldest])
        assert 0 <= spool.state.oldest_age < 60


async def test_an_unforeseen_failure_is_logged_and_the_spool_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits gets an error, readiness says so, and the next event is kept: the thread does not die."""
    async with Spool.open(SpoolSettings(directory=tmp_path / "spool")) as spool:

        def broken(*_: object) -> int:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(SpoolFile, "write", broken)
            patched.setattr(SpoolFile, "probe", broken)  # or it might be writable again at once
            with pytest.raises(SpoolError, match="MemoryError"):
                await spool.put(1, b"one")
            assert not spool.state.writable
        await eventually(lambda: spool.state.writable)
        entry = await spool.put(2, b"two")
        assert await spool.read(0, 10) == [entry]


async def test_an_entry_is_held_until_its_late_confirm_has_removed_it(tmp_path: Path) -> None:
    """The drain, which may have read it already, must not publish what RabbitMQ has just confirmed."""
    async with Spool.open(SpoolSettings(directory=tmp_path / "spool")) as spool:
        entry = await spool.put(1, b"one", held=True)
        spool.remove_confirmed(entry)
        assert spool.is_held(entry)
        await eventually(lambda: not spool.is_held(entry))
        assert await spool.read(0, 10) == []
