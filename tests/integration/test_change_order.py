"""On PostgreSQL several processes write at once: their changes become visible in the order of their ids all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.suppression import writing
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick


@pytest.fixture
async def stores(postgresql_url: str) -> AsyncIterator[tuple[Store, Store]]:
    """One database, as two processes have it."""
    async with Store.open(postgresql_url) as one, Store.open(postgresql_url) as other:
        yield one, other


async def test_a_later_change_is_not_seen_before_an_earlier_one(
    stores: tuple[Store, Store], postgresql_url: str
) -> None:
    """The second writer waits until the first, who has his id, has committed; a reader sees none or the first."""
    one, other = stores
    async with one._database.write() as connection:
        cause = writing.Cause("ann@example.org", "ann@example.org", Reason.MANUAL, at=1)
        await writing.upsert_entries(connection, [cause], actor="ann", now=1)
        adding = asyncio.create_task(other.add("bob@example.org", actor="bob", note=""))
        await _somebody_waits(postgresql_url)
        assert await one.feed(0, 9) == []
    await adding
    assert [change.actor for change in await one.feed(0, 9)] == ["ann", "bob"]


async def test_who_follows_the_feed_misses_nothing_beside_writers(stores: tuple[Store, Store]) -> None:
    """Two workers record in turn and at once, while a reader goes on behind the last id that he has seen."""
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 120:
            changes = await stores[0].feed(seen[-1] if seen else 0, 7)
            seen.extend(change.id for change in changes)

    async def work(store: Store, name: str) -> None:
        for number in range(20):
            events = [
                SuppressingEvent(f"{at}@example.org", Reason.HARD_BOUNCE, f"{name}{number}.{at}", 1, "m", b"")
                for at in range(number, number + 3)
            ]
            await store.record(events, actor=name)

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        group.create_task(follow())
        group.create_task(work(stores[0], "one"))
        group.create_task(work(stores[1], "two"))
    assert seen == [change.id for change in await stores[0].feed(0, 999)]


async def _somebody_waits(url: str) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    async with asyncio.timeout(90):
        while not await postgres.query(url, waiting):  # noqa: ASYNC110 -- only PostgreSQL knows
            await asyncio.sleep(0.01)
