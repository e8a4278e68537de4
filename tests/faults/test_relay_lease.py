"""Workers on one list, in either database: one at a time publishes its changes, in order, and another takes over."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import stores
from tests.support.eventually import eventually
from tests.support.postgres import is_postgresql
from tests.support.workers import first_to_say, lines_with, started, stopped
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

FOUR_START = 90.0
"""Seconds: what four processes take to start at once, on a machine that has other things to do."""


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], database_url: str) -> dict[str, dict[str, Any]]:
    """Longer than a write takes, or a worker stands still, on a busy machine: who loses the lease then publishes twice."""
    return changed(overrides, suppression={"database_url": database_url}, worker={"take_over_after": 4.0})


async def test_four_workers_count_each_event_once_and_publish_each_change_once_in_order(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit
) -> None:
    """400 events of different times share 100 addresses, and every second one comes again."""
    events = [body_of("hard_bounced", number % 100 + 1, at=1_539_062_173 + number) for number in range(400)]
    small = {"batch_size": 25, "prefetch": 50, "linger": 0.005, "take_over_after": 10.0}
    url = overrides["suppression"]["database_url"]
    # All four write: on a slow disk one may have to wait for the others for longer than SQLite does by itself.
    patient = {"database_url": url if is_postgresql(url) else f"{url}?timeout=60"}
    changes = changed(overrides, worker=small, suppression=patient)
    workers = await started(processes, changes, 4, patience=FOUR_START)
    assert await rabbit.consumers(rabbit.names.suppression) == 4
    await asyncio.gather(workplace.send(*events), workplace.send(*events[::-2]))
    ids = await workplace.published_ids(400)
    outcomes = [f'"action":"suppression.{outcome}"' for outcome in ("added", "updated", "repeated")]
    await eventually(lambda: sum(lines_with(workers, outcome) for outcome in outcomes) == 600)
    await stopped(workers)
    assert len(set(ids)) == 400
    assert workplace.unheard == 0
    assert _steps_back(ids, await _addresses(overrides)) == 0
    assert await workplace.listed() == {
        (f"recipient{number}@example.org", "hard_bounce"): 4 for number in range(1, 101)
    }
    assert await workplace.left() == []
    assert await workplace.dead() == []
    assert lines_with(workers, '"worker.pause"') == 0


async def test_another_worker_publishes_when_the_one_that_did_is_paused(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """SIGSTOP: the other takes over within moments; the paused one comes back, and nobody steps back for it."""
    workers = await started(processes, overrides, 2, patience=FOUR_START)
    holder = await first_to_say(workers, "relay.lease_acquired")
    (other,) = (worker for worker in workers if worker is not holder)
    events = [body_of("hard_bounced", number % 20 + 1, at=number) for number in range(1, 101)]
    await workplace.send(*events[:20])
    ids = await workplace.published_ids(20)
    await _marked(overrides)
    _pause_outside_of_a_write(holder, overrides["suppression"]["database_url"])
    try:
        await workplace.send(*events[20:80])
        await other.says("relay.lease_acquired")
        ids += await workplace.published_ids(10)  # the paused one has the others in flight
    finally:
        holder.send(signal.SIGCONT)
    await holder.says("relay.lease_lost")
    await workplace.send(*events[80:])
    while len(set(ids)) < 100:
        ids += await workplace.published_ids(1)
    await stopped(workers)
    ids += await workplace.published_ids(workplace.unheard)
    assert len(ids) == 100
    assert _steps_back(ids, await _addresses(overrides)) == 0


def _pause_outside_of_a_write(worker: Process, database_url: str) -> None:
    """SIGSTOP it when it does not hold SQLite's one write lock: nobody could write until it goes on."""
    while True:
        worker.send(signal.SIGSTOP)
        if not database_url.startswith("sqlite"):
            return
        with closing(sqlite3.connect(database_url.partition(":///")[2], isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.send(signal.SIGCONT)
            else:
                return


async def _marked(overrides: dict[str, Any]) -> None:
    """Wait until what was published is known as such: from then on nothing is published twice."""
    waiting = "SELECT count(*) FROM changes WHERE published_at IS NULL"
    async with asyncio.timeout(90):
        while await stores.query(overrides["suppression"]["database_url"], waiting) != [(0,)]:  # noqa: ASYNC110 -- only the database knows
            await asyncio.sleep(0.01)


async def _addresses(overrides: dict[str, Any]) -> dict[str, str]:
    """The id of each message that tells of a change -> the address that it is about."""
    rows = await stores.query(overrides["suppression"]["database_url"], "SELECT id, address FROM changes")
    return {f"change-{number}": address for number, address in rows}


def _steps_back(ids: Iterable[str], addresses: dict[str, str]) -> int:
    """How often a change of an entry was published after a later one of the same entry."""
    last: dict[str, int] = {}
    steps = 0
    for message_id in ids:
        address, number = addresses[message_id], _number(message_id)
        steps += number < last.get(address, 0)
        last[address] = number
    return steps


def _number(message_id: str) -> int:
    return int(message_id.removeprefix("change-"))
