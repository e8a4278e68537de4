"""The spool's folder removed, or mounted over, under receivers that use it: what was answered 200 is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import disk_space, stall, thread
from bridge.spool.errors import SpoolError
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.quick

PATIENCE_SECONDS = 90


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow is waited for: here it answers, and has something else."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60.0)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(thread, name, 15.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Spool]:
    settings = SpoolSettings(directory=folder, min_free_bytes=0)
    async with asyncio.timeout(PATIENCE_SECONDS), Spool.open(settings) as spool:
        yield spool


def on_disk(folder: Path) -> list[bytes]:
    """What the next process would find in this folder, if all that use it were killed now."""
    found: list[bytes] = []
    for file in folder.glob("spool-*.sqlite3"):
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found += [body for (body,) in connection.execute("SELECT body FROM entries")]
    return sorted(found)


def removed(folder: Path) -> None:
    """At one blow: the spool looks after its folder, and may make it again while it is being emptied."""
    aside = folder.with_name("removed")
    folder.rename(aside)
    shutil.rmtree(aside)


def renamed(folder: Path) -> None:
    folder.rename(folder.with_name("another"))


def without_log(folder: Path) -> None:
    (folder / "spool-0.sqlite3-wal").unlink()


def with_another_log(folder: Path) -> None:
    without_log(folder)
    (folder / "spool-0.sqlite3-wal").write_bytes(b"of another database")


def without_database(folder: Path) -> None:
    (folder / "spool-0.sqlite3").unlink()


def with_another_database(folder: Path) -> None:
    """A restore that replaces the file by another of the same name."""
    with closing(sqlite3.connect(folder / "another.sqlite3")) as another:
        another.execute(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY, received_at INTEGER, body BLOB) STRICT"
        )
    (folder / "another.sqlite3").rename(folder / "spool-0.sqlite3")


def blocked(folder: Path) -> None:
    """A regular file where the folder is to be: nobody, root neither, can write into that. As quickly as can be."""
    file = folder.with_name("file")
    file.write_bytes(b"a regular file")
    folder.rename(folder.with_name("removed"))
    file.rename(folder)
    shutil.rmtree(folder.with_name("removed"))


def unblocked(folder: Path) -> None:
    folder.unlink()


REPLACED = pytest.mark.parametrize(
    "replace",
    [removed, renamed, without_log, with_another_log, without_database, with_another_database],
    ids=lambda replace: replace.__name__,
)


@REPLACED
async def test_what_was_put_before_and_after_is_in_the_folder(
    folder: Path, replace: Callable[[Path], None]
) -> None:
    """Every put that returned is there for the next process, whatever becomes of this one."""
    async with opened(folder) as spool:
        for number in range(5):
            await spool.put(number, b"before %d" % number)
        with capture_logs() as said:  # before: the spool may see it before the next comes
            replace(folder)
            await spool.put(5, b"after")
        expected = [b"after", *(b"before %d" % number for number in range(5))]
        assert set(on_disk(folder)) >= set(expected)
        [event] = [one for one in said if one["action"] == "spool.replaced"]
        assert (event["log_level"], event["entries"]) == ("error", 5)
        assert [entry.body for entry in await spool.read(0, 10)] == [*expected[1:], b"after"]
        assert (spool.state.writable, spool.state.entries) == (True, 6)


async def test_nobody_has_to_put_anything_for_it_to_be_seen(folder: Path) -> None:
    """A spool at rest looks after its file as well: a kill that comes later loses nothing."""
    async with opened(folder) as spool:
        await spool.put(1, b"one")
        with capture_logs() as said:
            removed(folder)
            await eventually(lambda: replacements(said) == 1)
        assert on_disk(folder) == [b"one"]


@pytest.mark.parametrize("replace", [removed, without_log, without_database], ids=lambda one: one.__name__)
async def test_a_file_that_is_replaced_during_a_commit_loses_nothing(
    folder: Path, replace: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the file and the end of the commit: it is looked at again before anybody is answered."""
    async with opened(folder) as spool:
        await spool.put(0, b"before")
        look = disk_space.free_bytes
        pending = [folder]

        def replace_it(path: Path) -> int:
            free = look(path)
            if pending:
                replace(pending.pop())
            return free

        monkeypatch.setattr(disk_space, "free_bytes", replace_it)
        await spool.put(1, b"during")
        assert not pending
        assert set(on_disk(folder)) >= {b"before", b"during"}
        assert [entry.body for entry in await spool.read(0, 10)] == [b"before", b"during"]


async def test_two_on_one_folder_lose_nothing_when_it_is_removed(folder: Path) -> None:
    """The second makes the first one's file anew: that a file of that name is there says nothing."""
    async with opened(folder) as one, opened(folder) as other:
        await one.put(0, b"one before")
        await other.put(0, b"other before")
        removed(folder)
        await other.put(0, b"other after")
        await one.put(0, b"one after")
        both = [b"one after", b"one before", b"other after", b"other before"]
        assert on_disk(folder) == both
        assert not {*one.paths} & {*other.paths}
        await one.remove(await one.read(0, 10))
        assert on_disk(folder) == both[2:]
    assert on_disk(folder) == both[2:]


async def test_two_that_find_it_out_at_once_have_a_file_each(folder: Path) -> None:
    """A lock on a file that was removed protects nothing."""
    async with opened(folder) as one, opened(folder) as other:
        for number in range(5):
            removed(folder)
            await asyncio.gather(one.put(0, b"one %d" % number), other.put(0, b"other %d" % number))
            assert not {*one.paths} & {*other.paths}
        assert on_disk(folder) == sorted(
            b"%s %d" % (name, n) for name in (b"one", b"other") for n in range(5)
        )


async def test_while_there_is_no_folder_entries_can_be_drained_but_none_is_taken(folder: Path) -> None:
    """Once there is one, those that are left are in it."""
    async with opened(folder) as spool:
        first, second = await spool.put(1, b"first"), await spool.put(2, b"second")
        blocked(folder)
        for _ in range(3):
            with pytest.raises(SpoolError, match="cannot be copied"):
                await spool.put(3, b"refused")
        assert not spool.state.writable
        assert await spool.read(0, 10) == [first, second]
        await spool.remove([first])
        assert await spool.read(0, 10) == [second]
        unblocked(folder)
        await eventually(lambda: spool.state.writable)
        assert on_disk(folder) == [b"second"]
        await spool.put(3, b"third")
        assert [entry.body for entry in await spool.read(0, 10)] == [b"second", b"third"]


async def test_a_lock_that_was_removed_is_no_lock(folder: Path) -> None:
    """Somebody else may take the file: we go on with another one, and both are right."""
    async with opened(folder) as spool:
        await spool.put(1, b"one")
        (folder / "spool-0.lock").unlink()
        await spool.put(2, b"two")
        assert on_disk(folder) == [b"one", b"two"]
        assert [path.name for path in spool.paths] == ["spool-1.sqlite3"]
        SpoolFile(folder / "spool-0.sqlite3", min_free_bytes=0).close(delete=True)
        await spool.put(3, b"three")
        assert on_disk(folder) == [b"one", b"three", b"two"]


async def test_a_folder_that_is_mounted_over(folder: Path) -> None:
    """All that was put is in what is seen now; what comes to light again afterwards is not published again."""
    async with opened(folder) as spool:
        await spool.put(1, b"before")
        with capture_logs() as said:
            with mounted_over(folder):
                await spool.put(2, b"after")
                assert on_disk(folder) == [b"after", b"before"]
                assert [entry.body for entry in await spool.read(0, 10)] == [b"before", b"after"]
            await eventually(lambda: replacements(said) == 2)
        assert on_disk(folder) == [b"after", b"before"]


@contextmanager
def mounted_over(folder: Path) -> Iterator[None]:
    """A disk in the folder's place for a while; where we may not mount one, another folder."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    if not mounted:
        folder.rename(folder.with_name("below"))
        folder.mkdir()
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        else:
            shutil.rmtree(folder)
            folder.with_name("below").rename(folder)


def replacements(said: Sequence[Mapping[str, Any]]) -> int:
    return sum(one["action"] == "spool.replaced" for one in said)
