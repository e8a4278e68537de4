"""A disk that takes no removals: nothing is published over and over, and the memory stays small."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from structlog.testing import capture_logs

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import orphans, pending_removals, stall, thread
from bridge.spool.entries import SpoolEntry
from bridge.spool.errors import SpoolError
from bridge.spool.listing import read_contents
from bridge.spool.orphans import Orphan
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.quick

T = TypeVar("T")

PATIENCE_SECONDS = 90
REFUSAL = "CREATE TRIGGER refusal BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'no removals'); END"
FEW = 10


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses is tried again soon; one that is slow is waited for."""
    monkeypatch.setattr(pending_removals, "FIRST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60.0)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(thread, name, 15.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many that cannot be removed are too many."""
    for module in (pending_removals, orphans):
        monkeypatch.setattr(module, "MAX_PENDING", FEW)
    return FEW


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Spool]:
    settings = SpoolSettings(directory=folder, min_free_bytes=0)
    async with asyncio.timeout(PATIENCE_SECONDS), Spool.open(settings) as spool:
        yield spool


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many removals each transaction was asked for, of those that were asked for any."""
    asked: list[int] = []
    write = SpoolFile.write

    def counting(file: SpoolFile, entries: Sequence[SpoolEntry], removed: Sequence[int]) -> int:
        if removed:
            asked.append(len(removed))
        return write(file, entries, removed)

    with monkeypatch.context() as patched:
        patched.setattr(SpoolFile, "write", counting)
        yield asked


async def drained(spool: Spool, *, at_once: int = 2) -> list[SpoolEntry]:
    """What a drain would publish in one go, and asks to be removed."""
    after, published = 0, []
    while entries := await spool.read(after, at_once):
        published += entries
        await spool.remove(entries)
        after = entries[-1].id
    return published


async def test_what_cannot_be_removed_is_published_once_and_the_rest_waits(
    folder: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few that stay, nothing more is published; all that is removed in the end is gone, and the rest goes."""
    async with opened(folder) as spool:
        entries = [await spool.put(number, b"%d" % number) for number in range(3 * few)]
        execute(spool.paths[0], REFUSAL)
        with counted(monkeypatch) as asked:
            assert await drained(spool) == entries[:few]
            assert await drained(spool) == []
            assert len(asked) <= 4, "not all of them again with each chunk"
        assert spool.state.writable
        await spool.put(1000, b"new")
        execute(spool.paths[0], "DROP TRIGGER refusal")
        await eventually(lambda: spool.state.entries == 2 * few + 1)
        assert [entry.body for entry in await drained(spool)] == [
            *(one.body for one in entries[few:]),
            b"new",
        ]
        await eventually(lambda: spool.state.entries == 0)


async def test_ids_are_kept_and_no_bodies(folder: Path) -> None:
    """A gibibyte of entries that cannot be removed is not to fill the memory."""
    async with opened(folder) as spool:
        entries = [await spool.put(number, bytes(1000)) for number in range(20)]
        execute(spool.paths[0], REFUSAL)
        await spool.remove(entries)
        assert spool._thread.file._removals._sizes == {entry.id: 1064 for entry in entries}
        execute(spool.paths[0], "DROP TRIGGER refusal")


async def test_a_removal_that_is_refused_costs_no_event_its_place(folder: Path) -> None:
    """They are asked for in one transaction: the event is kept all the same."""
    async with opened(folder) as spool:
        first = await spool.put(1, b"first")
        execute(spool.paths[0], REFUSAL)
        removal = spool._remove([first])
        second = await spool.put(2, b"second")
        await removal
        assert await spool.read(0, 10) == [second]


async def test_after_a_restart_nothing_is_published_while_nothing_can_be_removed(folder: Path) -> None:
    """The process before may have published all of it; once removals are taken, it is published."""
    async with opened(folder) as spool:
        entries = [await spool.put(number, b"%d" % number) for number in range(4)]
        path = spool.paths[0]
    execute(path, REFUSAL)
    with capture_logs() as said:  # from the start: the spool may find it out before anybody reads
        async with opened(folder) as spool:
            assert await spool.read(0, 10) == []
            assert await spool.read(0, 10) == []
            assert [one["action"] for one in said].count("spool.removals_failed") == 1
            assert spool.state.entries == 4
            execute(path, "DROP TRIGGER refusal")
            assert await until(lambda: spool.read(0, 10)) == entries


async def test_a_large_file_left_behind_is_not_published_where_nothing_can_be_removed(
    folder: Path, few: int
) -> None:
    """A small one can be removed whole afterwards; this one would be published by one process after the other."""
    path = left_behind(folder, 2 * few)
    execute(path, REFUSAL)
    for _ in range(2):
        orphan = Orphan(SpoolFile(path, min_free_bytes=0))
        with pytest.raises(SpoolError, match="nothing can be removed"):
            await orphan.read(0, 100)
        assert await orphan.try_close(emptied=False)
    assert read_contents(path).entries == 2 * few


async def test_a_file_left_behind_that_begins_to_refuse_removals_is_kept_and_remembered(
    folder: Path, few: int
) -> None:
    """It is not given back: what was published already would be published again."""
    path = left_behind(folder, 2 * few)
    orphan = Orphan(SpoolFile(path, min_free_bytes=0))
    first = await orphan.read(0, 2)
    execute(path, REFUSAL)
    await orphan.remove(first)
    assert not await orphan.try_close(emptied=True)
    assert await orphan.read(0, 2) == [SpoolEntry(number, number, b"%d" % number) for number in (3, 4)]
    execute(path, "DROP TRIGGER refusal")
    await until(lambda: orphan.try_close(emptied=False))
    assert read_contents(path).entries == 2 * few - 2


async def test_a_file_left_behind_that_is_removed_while_it_is_drained_is_copied(folder: Path) -> None:
    """What is not in RabbitMQ yet is in the folder again, and the file that stands there now is left alone."""
    path = left_behind(folder, 5)
    orphan = Orphan(SpoolFile(path, min_free_bytes=0))
    await orphan.remove(await orphan.read(0, 2))
    shutil.rmtree(folder)
    _make(folder)
    living = SpoolFile(path, min_free_bytes=0)
    living.write([SpoolEntry(7, 7, b"of another")], ())
    with pytest.raises(SpoolError, match="somebody has removed it"):
        await orphan.read(2, 2)
    assert await orphan.try_close(emptied=False)
    assert read_contents(path).entries == 1
    assert read_contents(folder / "spool-1.sqlite3").entries == 3
    assert living.in_place()
    living.close()


async def test_a_call_that_was_cancelled_ends_before_the_file_is_closed(folder: Path) -> None:
    """Its thread goes on without whoever waited for it: SQLite is not closed by another one in the middle of it."""
    orphan = Orphan(SpoolFile(left_behind(folder, 1), min_free_bytes=0))
    begun, ending = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection, _: Container[int]) -> None:
        begun.set()
        ending.wait(PATIENCE_SECONDS)
        order.append(("read", connection.execute("SELECT count(*) FROM entries").fetchone()[0]))

    order: list[tuple[str, int]] = []
    before = set(threading.enumerate())
    reading = asyncio.create_task(orphan.run_task(slow))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    reading.cancel()
    closing_it = asyncio.create_task(orphan.try_close(emptied=False))
    await eventually(lambda: sum(one.name == "abandonable" for one in {*threading.enumerate()} - before) == 2)
    ending.set()
    assert await closing_it
    assert order == [("read", 1)]


async def until(holds: Callable[[], Awaitable[T]]) -> T:
    """What it returns, once that is something."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (answer := await holds()):  # noqa: ASYNC110 -- a pause that is over is no event
            await asyncio.sleep(0.05)
    return answer


def _make(folder: Path) -> None:
    folder.mkdir()


def left_behind(folder: Path, count: int) -> Path:
    """The file of a process that is gone."""
    folder.mkdir(exist_ok=True)
    file = SpoolFile(folder / "spool-0.sqlite3", min_free_bytes=0)
    file.write([SpoolEntry(number, number, b"%d" % number) for number in range(1, count + 1)], ())
    file.close()
    return file.path
