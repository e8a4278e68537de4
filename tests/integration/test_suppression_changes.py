"""The outbox: changes that other services have to be told of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from bridge.suppression.changes import Lag
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_539_062_173


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


async def bounce(store: Store, *names: str) -> None:
    await store.record(
        [
            SuppressingEvent(f"{name}@Example.org", Reason.HARD_BOUNCE, f"event of {name}", 1, "7", b"{}")
            for name in names
        ],
        actor="worker",
    )


async def test_a_change_tells_others_what_happened(store: Store) -> None:
    """One flat JSON document, the address normalised, the time in RFC 3339, without the evidence."""
    await bounce(store, "Jane")
    (change,) = await store.outbox.pending(10)
    assert orjson.loads(change.body()) == {
        "id": 1,
        "action": "added",
        "address": "jane@example.org",
        "reason": "hard_bounce",
        "at": "2018-10-09T05:16:13Z",
        "actor": "worker",
        "note": "",
        "event_id": "event of Jane",
        "message_id": "7",
        "still_suppressed": True,
        "reasons": ["hard_bounce"],
    }


async def test_a_change_by_a_person_has_no_event(store: Store) -> None:
    """And it has a note."""
    await store.add("jane@example.org", actor="ann", note="asked by phone")
    (change,) = await store.outbox.pending(10)
    document = change.document()
    assert (document["event_id"], document["message_id"]) == (None, None)
    assert (document["actor"], document["note"]) == ("ann", "asked by phone")


async def test_a_change_from_before_the_update_says_nothing_of_what_remains(
    store: Store, database_url: str, clock: Clock
) -> None:
    """The fields are left out: nobody knows any more."""
    await bounce(store, "jane")
    await stores.downgrade(database_url, "0004")
    async with Store.open(database_url, clock=clock) as updated:
        (change,) = await updated.history("jane@example.org")
    assert not {"still_suppressed", "reasons"} & set(change.document())


async def test_what_has_expired_remains_no_reason(store: Store) -> None:
    """Of an entry that no longer suppresses, a change says so."""
    await bounce(store, "jane")
    await store.add("jane@example.org", actor="ann", note="", expires_at=NOW)
    await store.remove("jane@example.org", reason=Reason.HARD_BOUNCE, actor="ann", note="")
    told = [change.reasons for change in await store.outbox.pending(10)]
    assert told == [(Reason.HARD_BOUNCE,), (Reason.HARD_BOUNCE,), ()]


async def test_changes_come_in_the_order_they_were_made(store: Store) -> None:
    """Oldest first, whatever their addresses; a limit cuts the newest off."""
    await bounce(store, "c", "a")
    await store.remove("c@example.org", reason=None, actor="ann", note="")
    await bounce(store, "b")
    told = [(change.action, change.address[0]) for change in await store.outbox.pending(10)]
    assert told == [("added", "c"), ("added", "a"), ("removed", "c"), ("added", "b")]
    assert [change.address[0] for change in await store.outbox.pending(2)] == ["c", "a"]


async def test_a_change_waits_until_it_is_marked(store: Store, clock: Clock) -> None:
    """Asking does not take it away; marking does, and the log keeps it with the time of the first mark."""
    await bounce(store, "a", "b", "c")
    ids = [change.id for change in await store.outbox.pending(10)]
    assert [change.id for change in await store.outbox.pending(10)] == ids
    await store.outbox.mark_published([])
    await store.outbox.mark_published([ids[2], ids[0]])
    assert [change.id for change in await store.outbox.pending(10)] == [ids[1]]
    clock.now += 60
    await store.outbox.mark_published(ids)
    assert await store.outbox.pending(10) == []
    assert [(await store.history(f"{name}@example.org"))[0].published_at for name in "ab"] == [NOW, NOW + 60]


async def test_many_changes_are_marked_at_once(store: Store) -> None:
    """More than one statement has parameters for."""
    await bounce(store, *(f"a{number}" for number in range(1300)))
    await store.outbox.mark_published([change.id for change in await store.outbox.pending(5000)])
    assert await store.outbox.lag() == Lag(0, 0)


async def test_the_lag_is_how_many_wait_and_for_how_long(store: Store, clock: Clock) -> None:
    """It counts from the oldest that is not published."""
    assert await store.outbox.lag() == Lag(0, 0)
    await bounce(store, "a")
    clock.now += 30
    await bounce(store, "b")
    clock.now += 10
    assert await store.outbox.lag() == Lag(2, 40)
    await store.outbox.mark_published([(await store.outbox.pending(1))[0].id])
    assert await store.outbox.lag() == Lag(1, 10)


async def test_a_repeated_event_tells_nobody_anything(store: Store) -> None:
    """It changed nothing."""
    await bounce(store, "a")
    await bounce(store, "a")
    assert (await store.outbox.lag()).changes == 1


async def test_relay_and_worker_write_at_once(store: Store) -> None:
    """Marking and recording take turns in one database; each change is told, and told once."""
    told: list[int] = []

    async def relay() -> None:
        while len(told) < 60:
            pending = await store.outbox.pending(7)
            told.extend(change.id for change in pending)
            await store.outbox.mark_published([change.id for change in pending])

    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        tasks.create_task(relay())
        for number in range(20):
            tasks.create_task(bounce(store, *(f"{name}{number}" for name in "abc")))
    # In PostgreSQL a smaller id may be committed, and so be told, after a greater one.
    assert sorted(told) == list(dict.fromkeys(sorted(told)))
    assert len(told) == 60
    assert await store.outbox.lag() == Lag(0, 0)
