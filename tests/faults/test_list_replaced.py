"""The list's file is replaced, removed, or robbed of its log while it is open: what is recorded is in the file at its path."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from bridge.suppression.errors import StoreError, StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import stores
from tests.support.commands import bridge
from tests.support.working import bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.working import Workplace

SUPPRESSED = 3
"""Exit code of `bridge suppressions check`."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.sqlite3"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{file}") as opened:
        await opened.record([suppressing_event("before")], actor="worker")
        yield opened


def suppressing_event(name: str) -> SuppressingEvent:
    return SuppressingEvent(f"{name}@example.org", Reason.HARD_BOUNCE, name, 1000, f"m-{name}", b"{}")


def copied(file: Path) -> Path:
    """A backup, taken as SQLite's own tools take it."""
    backup = file.with_name("backup")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    return backup


def listed(file: Path) -> list[str]:
    """Who stands on the list that is at this path, for somebody who opens it now; fails where it is damaged."""
    with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT address FROM suppressions ORDER BY address").fetchall()
    return [address.removesuffix("@example.org") for (address,) in rows]


def remove_logs(file: Path) -> None:
    for log in ("-wal", "-shm"):
        file.with_name(file.name + log).unlink(missing_ok=True)


def remove_all(file: Path) -> None:
    file.unlink()
    remove_logs(file)


def restore(file: Path) -> None:
    copied(file).rename(file)
    remove_logs(file)


def restore_and_leave_the_logs(file: Path) -> None:
    copied(file).rename(file)


def copy_over(file: Path) -> None:
    """Out of place, and put there by its name."""
    backup = copied(file)
    file.unlink()
    remove_logs(file)
    shutil.copy(backup, file)


@pytest.mark.parametrize(
    "fault",
    [
        restore,
        restore_and_leave_the_logs,
        copy_over,
        lambda file: file.unlink(),
        remove_all,
        lambda file: file.rename(file.with_name("aside")),
        remove_logs,
        lambda file: file.with_name("list.sqlite3-wal").unlink(),
        lambda file: file.with_name("list.sqlite3-shm").unlink(),
    ],
    ids=[
        "mv",
        "mv, logs left",
        "cp",
        "rm",
        "rm of all",
        "renamed",
        "rm of both logs",
        "rm of wal",
        "rm of shm",
    ],
)
async def test_what_is_recorded_afterwards_is_in_the_file_at_the_path(
    store: Store, file: Path, fault: Callable[[Path], object]
) -> None:
    """And what was there before is there, too; whether the store goes on or is opened anew."""
    fault(file)
    assert [done.outcome for done in await store.record([suppressing_event("after")], actor="worker")] == [
        "added"
    ]
    assert [entry.address for entry in await store.entries(limit=9)] == [
        "after@example.org",
        "before@example.org",
    ]
    assert listed(file) == ["after", "before"]
    async with Store.open(f"sqlite:///{file}") as another:
        await another.record([suppressing_event("last")], actor="worker")
    assert len(await store.entries(limit=9)) == 3
    assert sorted(path.name for path in file.parent.iterdir() if path.name.startswith("list.")) == [
        "list.sqlite3",
        "list.sqlite3-shm",
        "list.sqlite3-wal",
    ]


async def test_a_reader_sees_the_file_at_the_path(store: Store, file: Path) -> None:
    """Of a list that was restored from before, too: nobody is told what only the file that is gone knows."""
    backup = copied(file)
    await store.record([suppressing_event("since")], actor="worker")
    backup.rename(file)
    remove_logs(file)
    assert await store.check("since@example.org") == []
    assert len(await store.check("before@example.org")) == 1


async def test_a_commit_into_a_file_that_is_replaced_meanwhile_is_not_taken_for_done(
    store: Store, file: Path
) -> None:
    """Who recorded it hears that it has to come again; then it is in the new file."""
    engine = store._database._engine.sync_engine

    def replace(_: Any) -> None:
        file.with_name("new").write_bytes(file.read_bytes())
        file.with_name("new").rename(file)

    event.listen(engine, "commit", replace, once=True)
    with pytest.raises(StoreUnavailableError, match="replaced"):
        await store.record([suppressing_event("meanwhile")], actor="worker")
    outcomes = [done.outcome for done in await store.record([suppressing_event("meanwhile")], actor="worker")]
    assert outcomes == ["added"]
    assert "meanwhile" in listed(file)


async def test_a_file_of_an_earlier_revision_is_brought_to_ours(store: Store, file: Path) -> None:
    """As at the start; and what the numbers of changes were is not begun anew."""
    for number in range(5):
        await store.record([suppressing_event(f"o{number}")], actor="worker")
    (newest,) = [change.id for change in await store.outbox.pending(99)][-1:]
    older = file.with_name("older")
    with closing(sqlite3.connect(copied(file))) as source, closing(sqlite3.connect(older)) as target:
        source.backup(target)
        target.executescript(
            "DELETE FROM suppressions; DELETE FROM changes; DELETE FROM handled_events;"
            "UPDATE sqlite_sequence SET seq = 2"
        )
    await stores.downgrade(f"sqlite+aiosqlite:///{older}", "0001")
    older.rename(file)
    remove_logs(file)
    await store.record([suppressing_event("after")], actor="worker")
    assert listed(file) == ["after"]
    assert [change.id for change in await store.outbox.pending(99)] == [newest + 1]


async def test_an_empty_file_becomes_a_list(store: Store, file: Path) -> None:
    """Whoever puts one there wants to begin anew."""
    file.with_name("empty").touch()
    file.with_name("empty").rename(file)
    await store.record([suppressing_event("after")], actor="worker")
    assert listed(file) == ["after"]


async def test_a_file_that_is_no_list_is_waited_for(store: Store, file: Path) -> None:
    """It is unavailable until a list stands there again."""
    backup = copied(file)
    file.with_name("notes").write_text("this is a text, and a longer one than a header of SQLite. " * 20)
    file.with_name("notes").rename(file)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="file is not a database"):
            await store.record([suppressing_event("after")], actor="worker")
    backup.rename(file)
    await store.record([suppressing_event("after")], actor="worker")
    assert listed(file) == ["after", "before"]


async def test_a_folder_that_is_gone_is_waited_for(store: Store, file: Path) -> None:
    """The list is written back as soon as there is a place for it: the open file still has all of it."""
    file.parent.rename(file.parent.with_name("moved"))
    with pytest.raises(StoreError, match="cannot be written back") as refusal:
        await store.record([suppressing_event("after")], actor="worker")
    assert isinstance(refusal.value, StoreUnavailableError)
    file.parent.mkdir()
    await store.record([suppressing_event("after")], actor="worker")
    assert listed(file) == ["after", "before"]


async def test_an_entry_made_after_a_restore_is_there_after_a_restart(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, file: Path
) -> None:
    """Real processes: backup, mv, another bounce, a look, SIGKILL, and a look again."""
    overrides = changed(overrides, suppression={"database_url": f"sqlite+aiosqlite:///{file}"})
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await workplace.send(*bounces([1]))
    await workplace.changes(1)
    restore(file)
    await workplace.send(*bounces([2]))
    await worker.says("suppression.adopted")
    await worker.says("suppression.added", times=2)
    assert await _checked(file, 1) == await _checked(file, 2) == SUPPRESSED
    worker.send(signal.SIGKILL)
    await worker.ended()
    assert await _checked(file, 1) == await _checked(file, 2) == SUPPRESSED
    assert "Traceback" not in "".join(worker.lines)


async def _checked(file: Path, number: int) -> int:
    url = f"sqlite+aiosqlite:///{file}"
    asked = await bridge(
        "suppressions", "check", f"recipient{number}@example.org",
        directory=file.parent, BRIDGE_SUPPRESSION__DATABASE_URL=url,
    )  # fmt: skip
    return asked.code
