"""A lease in either database: one has it, who gives no sign loses it, and who was held up knows that it has."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from bridge.suppression import opening
from bridge.suppression.lease import Lease
from tests.support import stores
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.suppression.database import Database

pytestmark = pytest.mark.quick

LONG = 60.0
SHORT = 0.3


@pytest.fixture
async def databases(database_url: str) -> AsyncIterator[list[Database]]:
    """One database, as four processes have it open."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(opening.open_database(database_url, create=True))
            for _ in range(4)
        ]


async def test_of_several_who_ask_at_once_one_has_it(databases: list[Database]) -> None:
    """And it is the same one when all ask again."""
    leases = [Lease(database, "a", seconds=LONG) for database in databases]
    first = await asyncio.gather(*(lease.try_acquire() for lease in leases))
    assert sorted(first) == [False, False, False, True]
    assert await asyncio.gather(*(lease.try_acquire() for lease in leases)) == first
    assert [lease.is_held for lease in leases] == first


async def test_another_has_it_as_soon_as_it_is_given_back(databases: list[Database]) -> None:
    """What is given back twice, or by who has it not, changes nothing."""
    one, other = (Lease(database, "a", seconds=LONG) for database in databases[:2])
    assert await one.try_acquire()
    await other.release()
    assert not await other.try_acquire()
    await one.release()
    assert not one.is_held
    assert await other.try_acquire()
    await one.release()
    assert not await one.try_acquire()


async def test_two_names_are_two_leases(databases: list[Database]) -> None:
    """Who has the one may not have the other."""
    one, other = Lease(databases[0], "a", seconds=LONG), Lease(databases[1], "b", seconds=LONG)
    assert await one.try_acquire()
    assert await other.try_acquire()


async def test_who_waits_gets_it_only_from_a_holder_that_has_given_it_up(databases: list[Database]) -> None:
    """It counts how long the holder's lease lasts, not how long that of who waits would."""
    one, other = Lease(databases[0], "a", seconds=SHORT), Lease(databases[1], "a", seconds=LONG)
    assert await one.try_acquire()
    async with asyncio.timeout(90):
        while not await other.try_acquire():
            pass
    assert not one.is_held
    assert not await one.try_acquire()


async def test_who_renews_it_keeps_it(databases: list[Database]) -> None:
    """However often another asks."""
    one, other = Lease(databases[0], "a", seconds=SHORT), Lease(databases[1], "a", seconds=LONG)
    for _ in range(20):
        assert await one.try_acquire()
        await other.try_acquire()
        await asyncio.sleep(0)
        assert one.is_held is not other.is_held or not one.is_held


async def test_who_was_held_up_has_it_again_when_nobody_else_took_it(databases: list[Database]) -> None:
    """But not before asking: in between it may have been another's."""
    one = Lease(databases[0], "a", seconds=SHORT)
    assert await one.try_acquire()
    await eventually(lambda: not one.is_held)
    async with asyncio.timeout(90):
        while not one.is_held:  # it may have run out again before the database has answered
            assert await one.try_acquire()


async def test_a_clock_that_is_set_gives_it_to_nobody(databases: list[Database], database_url: str) -> None:
    """No time of day stands in the database: there is none that could be wrong."""
    one = Lease(databases[0], "a", seconds=LONG)
    assert await one.try_acquire()
    assert await stores.query(database_url, "SELECT name, renewals, seconds FROM leases") == [("a", 1, LONG)]


async def test_who_could_not_renew_it_does_not_ask_to_give_it_back(databases: list[Database]) -> None:
    """The database does not answer: whoever stops does not wait for it, and the lease runs out."""
    one, other = Lease(databases[0], "a", seconds=1.0), Lease(databases[1], "a", seconds=LONG)
    assert await one.try_acquire()
    async with asyncio.timeout(90):
        while not one.renewal_due:  # noqa: ASYNC110 -- only the clock knows
            await asyncio.sleep(0.01)
        await asyncio.sleep(one.renew_every / 2)
    await one.release()
    assert not one.is_held
    assert not await other.try_acquire()
