"""One spool file: what a commit keeps, what damage does, and who may have it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from bridge.spool.claiming import claim_file
from bridge.spool.entries import OVERHEAD, SpoolContents, SpoolEntry
from bridge.spool.errors import (
    SpoolCorruptError,
    SpoolError,
    SpoolFullError,
    SpoolLockedError,
    SpoolMissingError,
)
from bridge.spool.folder import in_use, other_files, rename_corrupt
from bridge.spool.listing import read_contents
from bridge.spool.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENTRIES = [SpoolEntry(number, 1000 + number, b'{"number": %d}' % number) for number in range(1, 2001)]
"""Enough for a middle page that holds entries."""


@contextmanager
def opened(path: Path, *, min_free_bytes: int = 0) -> Iterator[SpoolFile]:
    file = SpoolFile(path, min_free_bytes=min_free_bytes)
    try:
        yield file
    finally:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool-0.sqlite3"


@pytest.fixture
def full(path: Path) -> Path:
    """A file with all entries, closed in order: they are in the database, and there is no log beside it."""
    with opened(path) as file:
        file.write(ENTRIES, ())
    return path


@pytest.fixture
def crashed(tmp_path: Path, path: Path) -> Path:
    """The database and its log as a crash leaves them, with the entries in the log."""
    living = tmp_path / "living"
    living.mkdir()
    with opened(living / path.name) as file:
        file.write(ENTRIES, ())
        for suffix in ("", "-wal"):
            shutil.copy(living / (path.name + suffix), tmp_path)
    return path


def aside(path: Path) -> list[Path]:
    """The databases that were set aside for this one, without their logs."""
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(one for one in found if not one.name.endswith(("-wal", "-shm")))


def test_entries_come_back_in_order_with_their_bytes_untouched(path: Path) -> None:
    """Any byte, an empty body and 64 KiB come back as they were, after the file was closed and opened again."""
    bodies = [bytes(range(256)), b"", b"\x00", os.urandom(64 * 1024)]
    entries = [SpoolEntry(number, 7, body) for number, body in enumerate(bodies, 1)]
    with opened(path) as file:
        file.write(entries, ())
    with opened(path) as file:
        assert file.read(0, 10) == entries
        assert file.read(1, 2) == entries[1:3]


def test_one_write_adds_and_removes_or_does_nothing(path: Path) -> None:
    """A write that is refused leaves neither its additions nor its removals behind."""
    with opened(path) as file:
        file.write(ENTRIES[:2], ())
        with pytest.raises(SpoolError, match="UNIQUE"):
            file.write([ENTRIES[2], ENTRIES[1]], [ENTRIES[0].id])
        assert file.read(0, 10) == ENTRIES[:2]
        assert file.write([ENTRIES[2]], [ENTRIES[0].id]) == 1
        assert file.read(0, 10) == ENTRIES[1:3]


def test_a_write_tells_how_many_of_the_removed_were_there(path: Path) -> None:
    """So that the spool knows when its count needs to be taken anew."""
    with opened(path) as file:
        file.write(ENTRIES[:3], ())
        assert file.write((), [ENTRIES[0].id, ENTRIES[2].id, 999]) == 2
        assert file.write((), []) == 0


def test_contents_count_entries_and_bytes_and_know_the_oldest(path: Path) -> None:
    """The oldest by when it was received; an empty file has none."""
    with opened(path) as file:
        assert file.contents() == SpoolContents(0, 0, None, 0)
        assert file.oldest() is None
        file.write([SpoolEntry(5, 70, b"abc"), SpoolEntry(9, 80, b"defgh")], ())
        assert file.contents() == SpoolContents(2, 8 + 2 * OVERHEAD, 70, 9)
        assert file.oldest() == 70


def test_a_commit_is_fsynced(path: Path) -> None:
    """Write-ahead log and `synchronous = FULL`: each commit is on the disk when it returns."""
    with opened(path) as file:
        assert file._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_crash_loses_nothing_of_what_was_written(crashed: Path) -> None:
    """The files as they stand in the middle of the work hold every entry."""
    with opened(crashed) as file:
        assert file.read(0, 5000) == ENTRIES
    assert aside(crashed) == []


def test_a_second_owner_is_refused_until_the_first_lets_go(path: Path) -> None:
    """The lock is the file's, not the name's: it goes with whoever has it."""
    with opened(path):
        assert in_use(path)
        with pytest.raises(SpoolLockedError, match="another process has it"):
            SpoolFile(path, min_free_bytes=0)
    assert not in_use(path)
    with opened(path):
        pass


def test_claim_takes_the_first_file_that_nobody_has(tmp_path: Path) -> None:
    """Several processes on one folder have a file each, and one that is free again is taken again."""
    first = claim_file(tmp_path, min_free_bytes=0)
    second = claim_file(tmp_path, min_free_bytes=0)
    assert [first.path.name, second.path.name] == ["spool-0.sqlite3", "spool-1.sqlite3"]
    first.close()
    third = claim_file(tmp_path, min_free_bytes=0)
    assert third.path.name == "spool-0.sqlite3"
    second.close()
    third.close()


def test_others_are_the_spool_files_that_are_not_our_own(tmp_path: Path, full: Path) -> None:
    """Locks, logs, and what was set aside are none."""
    with opened(tmp_path / "spool-1.sqlite3") as own:
        rename_corrupt(full, "for the test")
        with opened(full):
            assert other_files(tmp_path, [own.path]) == [full]
            assert other_files(tmp_path, ()) == [full, own.path]


def test_peek_reads_a_file_that_somebody_else_has(tmp_path: Path) -> None:
    """Whatever characters the folder's name has."""
    folder = tmp_path / "100% spool? #1"
    folder.mkdir()
    with opened(folder / "spool-0.sqlite3") as file:
        file.write(ENTRIES[:3], ())
        assert read_contents(file.path) == file.contents()
    assert read_contents(file.path).entries == 3


def test_peek_says_what_it_cannot_read(full: Path) -> None:
    """And changes nothing: it is for people who only look."""
    garbage = b"no database" * 1000
    full.write_bytes(garbage)
    with pytest.raises(SpoolError, match="not a database"):
        read_contents(full)
    assert full.read_bytes() == garbage
    with pytest.raises(SpoolError):
        read_contents(full.with_name("spool-7.sqlite3"))


def test_close_removes_the_file_only_when_asked(full: Path) -> None:
    """All of SQLite's files go; the lock stays, for somebody may be waiting for it."""
    file = SpoolFile(full, min_free_bytes=0)
    file.close(delete=True)
    assert [left.name for left in full.parent.iterdir()] == ["spool-0.lock"]


def overwritten(path: Path, offset: int, garbage: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(garbage)


def header(path: Path) -> None:
    overwritten(path, 0, b"garbage!" * 16)


def middle_page(path: Path) -> None:
    overwritten(path, path.stat().st_size // 2 // 4096 * 4096, os.urandom(4096))


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = pytest.mark.parametrize("damage", [header, middle_page, half])


@DAMAGE
def test_a_corrupt_file_is_set_aside_with_its_bytes_and_a_new_one_begun(
    full: Path, damage: Callable[[Path], None]
) -> None:
    """It is never deleted; the log names both files, and the new one works."""
    damage(full)
    corrupt = full.read_bytes()
    with capture_logs() as said, opened(full) as file:
        assert file.contents().entries == 0
        file.write(ENTRIES[:1], ())
        assert file.read(0, 10) == ENTRIES[:1]
    [kept] = aside(full)
    assert kept.read_bytes() == corrupt
    [event] = [one for one in said if one["action"] == "spool.corrupt"]
    assert (event["file"], event["renamed_to"]) == (str(full), str(kept))
    assert event["log_level"] == "error"


@DAMAGE
def test_damage_to_the_database_does_not_touch_what_its_log_holds(
    crashed: Path, damage: Callable[[Path], None]
) -> None:
    """After a crash the newest entries are in the write-ahead log, and come back from there."""
    damage(crashed)
    with opened(crashed) as file:
        assert file.read(0, 5000) == ENTRIES
    assert aside(crashed) == []


@pytest.mark.parametrize("lose", [lambda path: os.truncate(path, 0), lambda path: path.unlink()])
def test_a_log_without_its_database_is_set_aside(crashed: Path, lose: Callable[[Path], None]) -> None:
    """SQLite would take it for the log of a database that is no more, and delete it."""
    log = crashed.with_name(f"{crashed.name}-wal")
    written = log.read_bytes()
    lose(crashed)
    with capture_logs() as said, opened(crashed) as file:
        assert file.contents().entries == 0
    [kept] = crashed.parent.glob(f"{crashed.name}.corrupt-*-wal")
    assert kept.read_bytes() == written
    assert [one["action"] for one in said] == ["spool.corrupt"]


def test_setting_aside_twice_keeps_both(full: Path) -> None:
    """However quickly one follows the other."""
    first = rename_corrupt(full, "for the test")
    full.write_bytes(b"second")
    second = rename_corrupt(full, "for the test")
    assert aside(full) == [first, second]
    assert second.read_bytes() == b"second"


def test_a_page_that_goes_bad_while_the_file_is_open_is_reported_as_corruption(path: Path) -> None:
    """Not as an ordinary refusal, which would be tried again for ever."""
    many = [SpoolEntry(number, 0, os.urandom(1000)) for number in range(1, 5001)]
    with opened(path) as file:
        file.write(many, ())
    with opened(path) as file:
        middle_page(path)
        with pytest.raises(SpoolCorruptError):
            file.read(0, 10_000)
        with pytest.raises(SpoolCorruptError):
            file.contents()


def test_a_file_that_somebody_removed_takes_nothing_more(path: Path) -> None:
    """SQLite would go on writing where nobody finds it."""
    with opened(path) as file:
        path.unlink()
        with pytest.raises(SpoolMissingError, match="removed it, or mounted over it") as refused:
            file.write(ENTRIES[:1], ())
        assert not refused.value.committed
        with pytest.raises(SpoolMissingError):
            file.probe()


def test_free_disk_below_the_minimum_refuses_events_but_not_removals(full: Path) -> None:
    """Or a full disk could never be made emptier. The message names the setting."""
    free = shutil.disk_usage(full.parent).free
    with opened(full, min_free_bytes=free * 10) as file:
        with pytest.raises(SpoolFullError, match=r"spool\.min_free_bytes"):
            file.write([SpoolEntry(9999, 0, b"{}")], ())
        with pytest.raises(SpoolFullError):
            file.probe()
        assert file.write((), [entry.id for entry in ENTRIES]) == len(ENTRIES)


def test_a_full_disk_refuses_and_loses_nothing(full: Path) -> None:
    """SQLite's own limit of pages answers as a full disk does; what was there stays."""
    with opened(full) as file:
        file._connection.execute("PRAGMA max_page_count = 1")  # it becomes the present size
        with pytest.raises(SpoolFullError, match="the disk is full"):
            file.write([SpoolEntry(9999, 0, os.urandom(64 * 1024))], [ENTRIES[0].id])
        assert file.read(0, 5000) == ENTRIES
        file.write((), [entry.id for entry in ENTRIES[:1000]])
        file.write([SpoolEntry(9999, 0, b"{}")], ())


def test_a_probe_changes_nothing_that_is_kept(full: Path) -> None:
    """It writes, and for real, but no entry."""
    with opened(full) as file:
        before = full.with_name(f"{full.name}-wal").stat().st_size
        file.probe()
        assert full.with_name(f"{full.name}-wal").stat().st_size > before
        assert file.read(0, 5000) == ENTRIES


@pytest.mark.parametrize("folder", ["missing", "file", "file/below"])
def test_a_folder_that_cannot_be_used_is_one_message_that_names_the_setting(
    tmp_path: Path, folder: str
) -> None:
    """Whether it is not there or no folder at all."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolError, match=r"spool\.directory must exist and be writable"):
        claim_file(tmp_path / folder, min_free_bytes=0)


def test_what_stands_in_the_files_place_is_reported(path: Path) -> None:
    """A folder with the file's name is no corrupt database: it is left where it is, and the lock is given back."""
    path.mkdir()
    with pytest.raises(SpoolError, match="unable to open"):
        SpoolFile(path, min_free_bytes=0)
    assert path.is_dir()
    assert not in_use(path)


def test_a_file_can_be_read_with_any_tool_for_sqlite(full: Path) -> None:
    """Whoever has to recover a file that was set aside finds the provider's bytes in one table."""
    with closing(sqlite3.connect(full)) as connection:
        rows = connection.execute("SELECT id, received_at, body FROM entries ORDER BY id").fetchall()
    assert [SpoolEntry(*row) for row in rows] == ENTRIES
