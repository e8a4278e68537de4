"""The spool keeps the trace of an event: in its file, aside, and in the file of a process that is gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bridge.spool.entries import SpoolEntry
from bridge.spool.entry_traces import entry_of
from bridge.spool.erasing import erase_events
from bridge.spool.missing_file import copy_to_new_file
from bridge.spool.set_aside_entries import REFUSED, Refusal, to_set_aside, to_take_due
from bridge.spool.spool_file import SpoolFile
from bridge.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE")
BODY = b'{"message":{"id":1},"event":{"name":"opened","timestamp":1539062173}}'
TRACED, OTHER = SpoolEntry(1, 1, BODY, TRACE), SpoolEntry(2, 2, b"{}")
REFUSAL = Refusal(REFUSED, "opened", "no")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def path(folder: Path) -> Path:
    """Of a file that has both, and that no process has open."""
    made = SpoolFile(folder / "spool-1.sqlite3", min_free_bytes=0)
    made.write([TRACED, OTHER], ())
    made.close()
    return made.path


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    """The same, as the next process opens it."""
    opened = SpoolFile(path, min_free_bytes=0)
    yield opened
    opened.close()


def traces(file: SpoolFile) -> list[int]:
    return [number for (number,) in file.database.connection.execute("SELECT id FROM traces")]


def test_an_entry_is_read_with_its_trace(file: SpoolFile) -> None:
    """Also where others are left out; those without a trace have none."""
    assert file.read(0, 9) == [TRACED, OTHER]
    assert file.read(0, 9, without={2}) == [TRACED]


def test_a_trace_goes_with_its_entry(file: SpoolFile) -> None:
    """Nothing of it is left."""
    file.write([], [2])
    assert traces(file) == [1]
    file.write([], [1])
    assert traces(file) == []


def test_an_entry_that_is_set_aside_keeps_its_trace(file: SpoolFile) -> None:
    """As it is taken for its next attempt; and its trace goes with it in the end."""
    file.run_task(to_set_aside(REFUSAL, [1, 2]))
    assert list(map(entry_of, file.run_task(to_take_due(REFUSAL.kind, 9)))) == [TRACED, OTHER]
    file.write([], [1])
    assert traces(file) == []


def test_a_copy_of_a_file_has_its_traces(path: Path) -> None:
    """Somebody has removed the file that is in use."""
    file = SpoolFile(path, min_free_bytes=0)
    path.unlink()
    copy = copy_to_new_file(file, path.parent)
    assert copy.read(0, 9) == [TRACED, OTHER]
    copy.close()


def test_a_file_of_an_earlier_release_is_read_and_one_of_this_by_that(folder: Path) -> None:
    """There is no trace in it; and what an earlier release has removed from one of this leaves no trace behind."""
    path = folder / "spool-7.sqlite3"
    with closing(sqlite3.connect(path)) as earlier, earlier:
        earlier.execute(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL) STRICT"
        )
        earlier.execute("INSERT INTO entries VALUES (5, 1, ?)", (BODY,))
    file = SpoolFile(path, min_free_bytes=0)
    assert file.read(0, 9) == [SpoolEntry(5, 1, BODY)]
    file.write([SpoolEntry(6, 1, BODY, TRACE)], [])
    file.close()
    with closing(sqlite3.connect(path)) as earlier, earlier:
        earlier.execute("INSERT INTO entries VALUES (?, ?, ?)", (8, 1, BODY))
        earlier.execute("DELETE FROM entries WHERE id = 6")
    file = SpoolFile(path, min_free_bytes=0)
    assert traces(file) == []
    assert [entry.id for entry in file.read(0, 9)] == [5, 8]
    file.close()


def test_an_erasure_takes_the_trace_too(path: Path) -> None:
    """Of the events that it erases."""
    assert erase_events(path.parent, ["1"], "jane@example.org").erased == 1
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM traces").fetchone() == (0,)
