"""Faults of the list's file: it is replaced and removed under a worker, and four workers share one."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.broker.topology import Names
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractIncomingMessage

    from tests.programs.faults.scene import Scene
    from tests.support.processes import Process

PAUSED_SECONDS: Final = 20.0
"""Longer than the turn to publish lasts, `worker.take_over_after`."""
_NAMES: Final = Names()


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
    """The one that publishes the changes is paused, then goes on; another is killed. No change is out of order."""
    async with _heard(scene) as numbers:
        holder = await _publishing(scene.workers)
        holder.send(signal.SIGSTOP)
        await asyncio.sleep(PAUSED_SECONDS)
        holder.send(signal.SIGCONT)
        other = next(number for number, worker in enumerate(scene.workers) if worker is not holder)
        scene.workers[other].send(signal.SIGKILL)
        await scene.workers[other].ended()
        await scene.start_worker(other)
        await scene.load.accepted(0.9)
    new, seen = [], set()
    for number in numbers:
        if number not in seen:
            new.append(number)
            seen.add(number)
    if not new or new != sorted(new):
        raise AssertionError(f"of {len(new)} changes, some were published after later ones")


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


@asynccontextmanager
async def _heard(scene: Scene) -> AsyncIterator[list[int]]:
    """The numbers of the changes that are published meanwhile, as they come."""
    numbers: list[int] = []

    async def take(message: AbstractIncomingMessage) -> None:
        numbers.append(int((message.message_id or "").removeprefix("change-")))

    async with await aio_pika.connect(scene.node.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(_NAMES.changes, "#")
        await queue.consume(take, no_ack=True)
        yield numbers
