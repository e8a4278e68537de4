"""How far the list may be behind, from the workers' reports: on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.freshness import LIVE_SECONDS, REQUEUED_AFTER_SECONDS, Report
from bridge.suppression.store import Store
from tests.support import stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


def nothing_waits(at: float) -> Report:
    """A worker's report when it has just seen that the queue is empty."""
    return Report(drained_at=at, caught_up_to=at - 1, requeued_by=at + REQUEUED_AFTER_SECONDS)


async def test_it_is_unknown_until_a_worker_has_reported(store: Store) -> None:
    """Nobody claims that a list is fresh which no worker has ever kept."""
    assert await store.freshness.read() is None


async def test_it_stays_where_it_was_while_no_worker_runs(store: Store, clock: Clock) -> None:
    """After the last report time goes on, and the list is as fresh as it was then."""
    await store.freshness.report("w1", nothing_waits(NOW))
    clock.now += 86_400
    assert await store.freshness.read() == NOW - 1


@pytest.mark.parametrize("waits", ["oldest_held", "oldest_returning", "oldest_dead"])
async def test_the_oldest_event_that_waits_holds_it_back(store: Store, waits: str) -> None:
    """One that a worker holds, one in a delay queue, and a dead letter: each counts with the time at which it came in."""
    await store.freshness.report(
        "w1", replace(nothing_waits(NOW), returned_by=NOW + 30, **{waits: NOW - 500})
    )
    assert await store.freshness.read() == NOW - 500
    await store.freshness.report("w1", nothing_waits(NOW))
    assert await store.freshness.read() == NOW - 1


async def test_an_unpublished_change_holds_it_back(store: Store, clock: Clock) -> None:
    """Until the change is published, services that follow the changes are behind."""
    await store.add("jane@example.org", actor="jane", note="")
    clock.now += 60
    await store.freshness.report("w1", nothing_waits(clock.now))
    assert await store.freshness.read() == NOW
    await store.outbox.mark_published([change.id for change in await store.outbox.pending(10)])
    assert await store.freshness.read() == clock.now - 1


async def test_the_worker_that_is_furthest_behind_decides(store: Store) -> None:
    """Each worker knows only of the events that it holds itself."""
    await store.freshness.report("w1", nothing_waits(NOW))
    await store.freshness.report("w2", replace(nothing_waits(NOW), drained_at=0, caught_up_to=NOW - 90))
    assert await store.freshness.read() == NOW - 90


async def test_what_a_killed_worker_held_counts_until_the_others_have_it(
    store: Store, clock: Clock, database_url: str
) -> None:
    """RabbitMQ gives its messages to the others. When they have seen the queue empty after that, its report is deleted."""
    await store.freshness.report("w1", replace(nothing_waits(NOW), oldest_held=NOW - 40))
    clock.now += int(LIVE_SECONDS) + 1
    await store.freshness.report("w2", nothing_waits(clock.now))
    assert await store.freshness.read() == NOW - 40
    clock.now = NOW + int(REQUEUED_AFTER_SECONDS) + 2
    await store.freshness.report("w2", nothing_waits(clock.now))
    assert await store.freshness.read() == clock.now - 1
    assert await stores.query(database_url, "SELECT source FROM freshness") == [("w2",)]


async def test_a_killed_worker_is_not_forgotten_while_the_queue_is_full(store: Store, clock: Clock) -> None:
    """What it held may still be in the queue, behind thousands of others."""
    await store.freshness.report("w1", replace(nothing_waits(NOW), oldest_held=NOW - 40))
    clock.now += 3600
    behind = replace(nothing_waits(clock.now), drained_at=0)
    await store.freshness.report("w2", behind)
    assert await store.freshness.read() == NOW - 40


async def test_what_a_worker_has_delayed_counts_after_its_end(store: Store, clock: Clock) -> None:
    """An event waits in a delay queue for an hour, and its worker is gone."""
    left = replace(nothing_waits(NOW), requeued_by=NOW, oldest_returning=NOW - 40, returned_by=NOW + 3600)
    await store.freshness.report("w1", left)
    for later, expected in ((1800, NOW - 40), (3602, NOW + 3601)):
        clock.now = NOW + later
        await store.freshness.report("w2", nothing_waits(clock.now))
        assert await store.freshness.read() == expected
