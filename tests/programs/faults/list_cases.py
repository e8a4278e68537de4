"""Faults of the list: its file is replaced and removed under a worker, four workers share one, an import is killed."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from bridge.suppression.store import Store
from tests.programs.faults.scene import Cast
from tests.support.commands import environment_without_settings
from tests.support.eventually import eventually
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.faults.scene import Scene
    from tests.support.processes import Process

PAUSED_SECONDS: Final = 20.0
"""Longer than the turn to publish lasts, `worker.take_over_after`."""
_DOMAIN: Final = "import.example.org"
IMPORT_CAST: Final = Cast(other_domains=(_DOMAIN,))
_IMPORTED: Final = 30_000
"""Rows of the file that is imported."""
_KILLS: Final = 3
_LOOK_EVERY_SECONDS: Final = 0.005


async def list_replaced(scene: Scene) -> None:
    """Restored by `mv` between two commits, twice; then removed with all that is beside it."""
    for times, share in enumerate((0.4, 0.6), start=1):
        await asyncio.to_thread(_restore, scene.list_file)
        await scene.workers[0].says("suppression.adopted", times=times)
        await scene.load.accepted(share)
    for name in ("", "-wal", "-shm"):
        scene.list_file.with_name(scene.list_file.name + name).unlink(missing_ok=True)
    await scene.workers[0].says("suppression.adopted", times=3)


async def four_workers(scene: Scene) -> None:
    """The one that publishes the changes is paused, then goes on; another is killed."""
    holder = await _publishing(scene.workers)
    holder.send(signal.SIGSTOP)
    await asyncio.sleep(PAUSED_SECONDS)
    holder.send(signal.SIGCONT)
    other = next(number for number, worker in enumerate(scene.workers) if worker is not holder)
    scene.workers[other].send(signal.SIGKILL)
    await scene.workers[other].ended()
    await scene.start_worker(other)
    await scene.load.accepted(0.9)


async def import_killed(scene: Scene) -> None:
    """A file is imported beside the worker, and the import killed again and again: the list is that of one clean import."""
    file = scene.directory / "bounces.csv"
    rows = (f"zzz{number * 7919 % _IMPORTED}@{_DOMAIN},bounce,{number}" for number in range(_IMPORTED))
    file.write_text("\n".join(("address,reason,created_at", *rows, "nobody,bounce,1", "")))
    chance, done, kills = random.Random(), 0, 0  # noqa: S311 -- of a test
    while (
        killed := await _import(file, scene.list_file, until=done + chance.randrange(1, 4000))
    ) is not None:
        done, kills = killed, kills + 1
    clean = scene.directory / "clean.sqlite3"
    async with Store.open(f"sqlite+aiosqlite:///{clean}"):
        pass
    await _import(file, clean)
    if kills < _KILLS:
        raise AssertionError(f"the import was killed only {kills} times")
    if (found := _of_import(scene.list_file)) != _of_import(clean):
        raise AssertionError(f"after {kills} kills the list is not that of one import: {found[1:]}")


async def _import(file: Path, database: Path, *, until: int | None = None) -> int | None:
    """Import it, or kill the import when so many rows are done. Returns how many then are; None: it has ended in order."""
    url = f"sqlite+aiosqlite:///{database}?timeout=30"
    environment = environment_without_settings() | {"BRIDGE_SUPPRESSION__DATABASE_URL": url}
    process = await start_bridge("suppressions", "import", str(file), cwd=file.parent, env=environment)
    ending = asyncio.create_task(process.communicate())
    try:
        while not ending.done():
            await asyncio.wait([ending], timeout=_LOOK_EVERY_SECONDS)
            if until is not None and not ending.done() and _rows_done(database) >= until:
                process.kill()
                await ending
                return _rows_done(database)
    finally:
        if not ending.done():
            process.kill()
            await ending
    if await process.wait() != 0:
        raise AssertionError(f"the import failed: {ending.result()[1].decode()}")
    return None


def _rows_done(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=30)) as reader:
        return int(reader.execute("SELECT coalesce(max(rows_done), 0) FROM imports").fetchone()[0])


def _of_import(database: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """The entries that were imported, how many changes there are of them, and what the import has counted."""
    with closing(sqlite3.connect(database, timeout=30)) as reader:
        entries = reader.execute(
            "SELECT address, reason, original, first_event_at, last_event_at, count FROM suppressions "
            "WHERE domain = 'import.example.org' ORDER BY address"
        ).fetchall()
        changes = reader.execute(
            "SELECT action, count(*), count(DISTINCT address) FROM changes WHERE note = 'import of bounces.csv' GROUP BY action"
        ).fetchall()
        counted = reader.execute(
            "SELECT rows_done, added, updated, unchanged, rejected, finished_at IS NOT NULL FROM imports"
        ).fetchall()
    return entries, changes, counted


def _restore(file: Path) -> None:
    """As somebody who has stopped the writers for as long as it takes: nothing is committed meanwhile."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        backup = file.with_name("backup")
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        backup.rename(file)
        for name in ("-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)


async def _publishing(workers: list[Process]) -> Process:
    def holders() -> list[Process]:
        return [
            worker for worker in workers if any('"relay.lease_acquired"' in line for line in worker.lines)
        ]

    await eventually(lambda: bool(holders()))
    return holders()[0]
