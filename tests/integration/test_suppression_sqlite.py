"""The list in a file: what SQLite must be told, and how a file fails."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.errors import StoreError, StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.quick


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.sqlite3"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite+aiosqlite:///{file}") as opened:
        yield opened


def suppressing_event(event_id: str, address: str = "jane@example.org") -> SuppressingEvent:
    return SuppressingEvent(address, Reason.HARD_BOUNCE, event_id, 1000, f"m-{event_id}", b"{}")


async def outcomes(store: Store, *suppressing_events: SuppressingEvent) -> list[str]:
    return [recorded.outcome for recorded in await store.record(suppressing_events, actor="worker")]


async def test_a_cancelled_record_raises_only_after_it_is_done(store: Store) -> None:
    """What was begun is finished first: the event has been handled."""
    task = asyncio.create_task(store.record([suppressing_event("e1")], actor="worker"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await outcomes(store, suppressing_event("e1")) == ["repeated"]


async def test_the_file_is_durable_and_lets_readers_read(store: Store, file: Path) -> None:
    """WAL for those who only ask; a commit is on disk before it is answered."""
    async with store._database.read() as connection:
        pragmas = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.check("jane@example.org") == []


async def test_a_locked_database_is_unavailable_and_then_works_again(file: Path) -> None:
    """A writer that waits longer than the timeout is told that waiting may help, and nothing is lost."""
    async with Store.open(f"sqlite:///{file}?timeout=0.05") as store:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                StoreUnavailableError, match=r"list\.sqlite3 cannot be used now: database is locked"
            ):
                await outcomes(store, suppressing_event("e1"))
            other.execute("ROLLBACK")
        assert await outcomes(store, suppressing_event("e1")) == ["added"]


async def test_a_full_disk_is_unavailable_and_keeps_nothing_of_the_batch(file: Path) -> None:
    """SQLite's own word for it is tried with a file that must not grow."""
    async with Store.open(f"sqlite:///{file}") as store:
        await outcomes(store, suppressing_event("e1"))
        async with store._database.read() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        huge = [suppressing_event(f"f{number}", f"joe{number}@example.org") for number in range(2000)]
        with pytest.raises(StoreUnavailableError, match="full"):
            await outcomes(store, *huge)
        assert [entry.address for entry in await store.entries(limit=10)] == ["jane@example.org"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///{tmp}/nowhere/list.sqlite3", "there is no folder {tmp}/nowhere"),
        ("sqlite:///{tmp}", "unable to open database file"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root:secret@db/list", "names mysql"),
        ("not a url", "is not a database URL"),
        ("sqlite:///{tmp}/list.sqlite3?timeout=soon", "could not convert string to float: 'soon'"),
    ],
)
async def test_a_database_that_cannot_be_is_one_clear_line(tmp_path: Path, url: str, reason: str) -> None:
    """The message names the folder or the setting, and never a password."""
    with pytest.raises(StoreError) as refusal:
        async with Store.open(url.format(tmp=tmp_path)):
            pass
    assert reason.format(tmp=tmp_path) in str(refusal.value)
    assert "secret" not in str(refusal.value)


async def test_asking_a_list_that_is_not_there_is_an_error(file: Path) -> None:
    """A wrong path must not answer that nobody is suppressed, nor leave an empty file."""
    for _ in range(2):
        with pytest.raises(StoreError, match="there is no suppression list at"):
            async with Store.open(f"sqlite:///{file}", create=False):
                pass


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_text("this is a text, and a longer one than a header of SQLite. " * 20)
    return path


async def test_a_file_that_is_no_database_is_an_error(text_file: Path) -> None:
    """It is told as such, and waiting would not help."""
    with pytest.raises(StoreError, match="file is not a database") as refusal:
        async with Store.open(f"sqlite:///{text_file}"):
            pass
    assert not isinstance(refusal.value, StoreUnavailableError)
