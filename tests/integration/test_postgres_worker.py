"""Workers that share one PostgreSQL: who publishes the changes, and a start that ten may make at once."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from bridge.suppression.store import Store
from tests.support import postgres
from tests.support.commands import bridge_within
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.workers import first_to_say, lines_with, started, stopped
from tests.support.working import bounced, bounces, changed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.working import Workplace

TEN_START = 90.0
"""Seconds: what ten processes take to start at once, on a machine that has other things to do."""


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], postgresql_url: str) -> dict[str, dict[str, Any]]:
    return changed(
        overrides,
        suppression={"database_url": postgresql_url},
        # Ten that end at once may take longer than one has for it.
        worker={"take_over_after": 1.0, "drain_timeout": 20.0},
    )


async def test_ten_workers_may_start_at_once_on_an_empty_database(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """One makes the tables, the others wait for it; all take messages."""
    workers = await started(processes, overrides, 10, patience=TEN_START)
    await workplace.send(*bounces(range(1, 51)))
    await workplace.changes(50)
    await stopped(workers)
    assert await workplace.listed() == bounced(range(1, 51))


async def test_ten_upgrades_at_once_bring_an_empty_database_to_the_newest_revision(
    postgresql_url: str, tmp_path: Path
) -> None:
    """All succeed, and one of them has done it."""
    variables = {"BRIDGE_SUPPRESSION__DATABASE_URL": postgresql_url}
    upgrade = ("db", "upgrade", "--wait", "60")
    outcomes = await asyncio.gather(
        *(bridge_within(TEN_START, *upgrade, directory=tmp_path, **variables) for _ in range(10))
    )
    assert [(outcome.code, outcome.stderr) for outcome in outcomes] == [(0, "")] * 10
    assert sum("before: nothing" in outcome.stdout for outcome in outcomes) == 1
    assert sum("already" in outcome.stdout for outcome in outcomes) == 9


async def test_another_worker_publishes_when_the_one_that_did_is_killed(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Its turn runs out; each change is published."""
    workers = await started(processes, overrides, 2, patience=TEN_START)
    holder = await first_to_say(workers, "relay.lease_acquired")
    (other,) = (worker for worker in workers if worker is not holder)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    holder.send(signal.SIGKILL)
    await holder.ended()
    await workplace.send(*bounces(range(11, 21)))
    await workplace.changes(20)
    await other.says("relay.lease_acquired")
    await stopped([other])
    assert await workplace.listed() == bounced(range(1, 21))


async def test_a_worker_that_stops_in_order_gives_the_lease_back(
    processes: Processes, overrides: dict[str, Any], postgresql_url: str
) -> None:
    """So that another has it at once, and not when it has run out."""
    (worker,) = await started(
        processes, changed(overrides, worker={"take_over_after": 600.0}), 1, patience=TEN_START
    )
    await worker.says("relay.lease_acquired")
    await stopped([worker])
    async with Store.open(postgresql_url) as store:
        await store.outbox.pending(1)
        assert store.outbox.holds_lease


async def test_another_worker_publishes_when_the_one_that_did_has_lost_rabbitmq(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, amqp_url: str
) -> None:
    """Who cannot publish gives the turn back, without being told to."""
    patient = changed(overrides, worker={"take_over_after": 600.0})
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(patient, rabbitmq={"urls": [proxy.url(amqp_url)]})
        (cut_off,) = await started(processes, through, 1, patience=TEN_START)
        await cut_off.says("relay.lease_acquired")
        (other,) = await started(processes, patient, 1, patience=TEN_START)
        await workplace.send(*bounces([1]))
        await workplace.changes(1)
        proxy.refuse()
        await cut_off.says("broker.retry", use="publish")
        await workplace.send(*bounces(range(2, 11)))
        await workplace.changes(10)
        await other.says("relay.lease_acquired")
        await stopped([cut_off, other])
    assert await workplace.listed() == bounced(range(1, 11))


async def test_a_worker_that_lost_its_connections_to_postgresql_keeps_the_lease(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, postgresql_url: str
) -> None:
    """They are replaced; no change is left out, and no worker counts as stuck."""
    overrides = changed(
        overrides,
        worker={"stuck_after": 10, "take_over_after": 600.0},
    )
    workers = await started(processes, overrides, 2, patience=TEN_START)
    await first_to_say(workers, "relay.lease_acquired")
    for number in range(1, 6):
        await postgres.query(
            postgresql_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'bridge' AND datname = current_database()",
        )
        await workplace.send(*bounces([number]))
        await workplace.changes(number)
    await stopped(workers)
    assert lines_with(workers, '"worker.stuck"') == lines_with(workers, '"relay.lease_lost"') == 0
    assert await workplace.listed() == bounced(range(1, 6))


async def test_a_worker_without_the_lease_is_not_stuck_and_leaves_the_changes_alone(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, postgresql_url: str
) -> None:
    """While somebody has the turn and publishes nothing, changes wait; afterwards they are published."""
    async with Store.open(postgresql_url, lease_seconds=600.0) as store:
        assert await store.outbox.pending(1) == []
        assert store.outbox.holds_lease
        (worker,) = await started(
            processes, changed(overrides, worker={"stuck_after": 4}), 1, patience=TEN_START
        )
        await workplace.send(*bounces(range(1, 11)))
        await worker.says("suppression.added", times=10)
        added = time.monotonic()
        # As long as a worker that had to publish would be stuck.
        await eventually(lambda: time.monotonic() - added > 5)
        assert workplace.unheard == 0
    await workplace.changes(10)
    await stopped([worker])
    assert not [line for line in worker.lines if '"worker.stuck"' in line and '"relay"' in line]


async def test_a_change_that_is_committed_after_later_ones_is_published_all_the_same(
    postgresql_url: str,
) -> None:
    """A slow transaction's change has a smaller id than those that were published before it could be seen."""
    async with Store.open(postgresql_url) as store:
        async with store._database.write() as slow:
            await store.add("first@example.org", actor="ann", note="")
            await slow.exec_driver_sql(
                "INSERT INTO changes (at, action, address, reason, actor, note) "
                "VALUES (1, 'added', 'slow@example.org', 'manual', 'jo', '')"
            )
            await store.add("last@example.org", actor="ann", note="")
            told = await store.outbox.pending(10)
            await store.outbox.mark_published([change.id for change in told])
        (late,) = await store.outbox.pending(10)
        assert [change.address for change in told] == ["first@example.org", "last@example.org"]
        assert late.address == "slow@example.org"
        assert told[0].id < late.id < told[1].id
