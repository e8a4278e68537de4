"""Pages of the list and of its changes, and what is added in one request: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.suppression import idempotency
from bridge.suppression.additions import Addition, AdditionResult
from bridge.suppression.errors import IdempotencyConflictError, RefusedValueError
from bridge.suppression.idempotency import IdempotentRequest
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.support import stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
REQUEST = IdempotentRequest("ann:1", "the body's hash")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


async def found(store: Store, wanted: ListFilter) -> list[str]:
    """`address/reason` of all that fit, page by page; as many as are counted."""
    shown: list[str] = []
    after: tuple[str, str] | None = None
    while page := await store.entries(wanted, limit=2, after=after):
        shown += [f"{one.address.partition('@')[0]}/{one.reason.value}" for one in page]
        after = page[-1].address, page[-1].reason.value
    assert await store.count(wanted) == len(shown)
    return shown


async def test_a_list_can_be_narrowed(store: Store, clock: Clock) -> None:
    """By reason, domain, a part of the address, the time of the last change and of the end; and by several at once."""
    await store.add("ann@example.org", actor="x", note="")
    await store.add("bob@mail.example.org", reason=Reason.COMPLAINT, actor="x", note="")
    clock.now = NOW + 10
    await store.add("100%_bob@other.example", actor="x", note="", expires_at=NOW + 99)
    await store.add("ann@example.org", reason=Reason.HARD_BOUNCE, actor="x", note="", expires_at=NOW + 300)
    assert await found(store, ListFilter()) == [
        "100%_bob/manual", "ann/hard_bounce", "ann/manual", "bob/complaint"
    ]  # fmt: skip
    assert await found(store, ListFilter(reason=Reason.MANUAL)) == ["100%_bob/manual", "ann/manual"]
    assert await found(store, ListFilter(domain="example.org")) == ["ann/hard_bounce", "ann/manual"]
    assert await found(store, ListFilter(text="BOB@")) == ["100%_bob/manual", "bob/complaint"]
    assert await found(store, ListFilter(text="%_b")) == ["100%_bob/manual"]
    assert await found(store, ListFilter(changed_since=NOW + 10)) == ["100%_bob/manual", "ann/hard_bounce"]
    assert await found(store, ListFilter(expiring_before=NOW + 100)) == ["100%_bob/manual"]
    assert await found(store, ListFilter(reason=Reason.MANUAL, domain="example.org", text="n")) == [
        "ann/manual"
    ]
    assert await found(store, ListFilter(domain="nowhere.example")) == []


async def test_a_cursor_survives_what_comes_and_goes(store: Store) -> None:
    """A page goes on behind the last one, though that one is gone and others stand before it now."""
    for name in "bdfh":
        await store.add(f"{name}@example.org", actor="x", note="")
    first = await store.entries(limit=2)
    after = first[-1].address, first[-1].reason.value
    await store.remove("d@example.org", reason=None, actor="x", note="")
    for name in "aceg":
        await store.add(f"{name}@example.org", actor="x", note="")
    rest = await store.entries(limit=9, after=after)
    assert [one.address[0] for one in rest] == ["e", "f", "g", "h"]


async def test_changes_come_in_order_from_anywhere(store: Store) -> None:
    """The feed begins behind any change, and has those of all addresses."""
    for name in "abc":
        await store.add(f"{name}@example.org", actor="x", note="")
    first, *others = await store.feed(0, 9)
    assert [one.address[0] for one in (first, *others)] == ["a", "b", "c"]
    assert await store.feed(first.id, 1) == others[:1]
    assert await store.feed(others[-1].id, 9) == []


async def test_many_are_added_with_a_result_for_each(store: Store) -> None:
    """New ones, known ones, one twice, and one that is no address, which does not fail the others."""
    await store.add("old@example.org", actor="x", note="")
    wanted = [
        Addition("New@example.org", note="asked by phone"),
        Addition("old@example.org"),
        Addition("nobody"),
        Addition("new@example.org", expires_at=NOW + 9),
        Addition("new@example.org", reason=Reason.UNSUBSCRIBE, expires_at=NOW + 9),
    ]
    results = await store.add_many(wanted, actor="ann")
    assert [one.outcome for one in results] == ["added", "updated", None, "updated", "added"]
    assert results[2] == AdditionResult(None, Reason.MANUAL, None, "not an e-mail address: it has no @-sign")
    entries = {one.reason: one for one in await store.check("new@example.org")}
    assert (entries[Reason.MANUAL].count, entries[Reason.MANUAL].expires_at) == (2, None)
    assert entries[Reason.UNSUBSCRIBE].expires_at == NOW + 9
    first, *_ = await store.history("new@example.org")
    assert (first.actor, first.note) == ("ann", "asked by phone")
    assert await store.add_many([], actor="ann") == []


async def test_a_repeated_request_changes_nothing_and_has_the_same_answer(store: Store, clock: Clock) -> None:
    """For 24 hours; after that it is a new one. Another request with its key is refused."""
    wanted = [Addition("new@example.org"), Addition("nobody")]
    first = await store.add_many(wanted, actor="ann", idempotency_key=REQUEST)
    clock.now = NOW + idempotency.KEPT_SECONDS - 1
    assert await store.add_many(wanted, actor="ann", idempotency_key=REQUEST) == first
    assert [one.count for one in await store.check("new@example.org")] == [1]
    with pytest.raises(IdempotencyConflictError, match="another request"):
        await store.add_many(
            [Addition("other@example.org")], actor="ann", idempotency_key=IdempotentRequest("ann:1", "other")
        )
    assert await store.check("other@example.org") == []
    clock.now = NOW + idempotency.KEPT_SECONDS
    again = await store.add_many(wanted, actor="ann", idempotency_key=REQUEST)
    assert [one.outcome for one in again] == ["updated", None]


async def test_the_same_request_at_once_is_done_once(store: Store) -> None:
    """A client that repeats itself before it has an answer gets the same one."""
    answers = await asyncio.gather(
        *(store.add_many([Addition("a@b.example")], actor="ann", idempotency_key=REQUEST) for _ in range(4))
    )
    assert {one.outcome for answer in answers for one in answer} == {"added"}
    assert [one.count for one in await store.check("a@b.example")] == [1]


async def test_what_the_database_refuses_leaves_nothing_half_done(store: Store, database_url: str) -> None:
    """Neither an address nor the key of the request: it can be made again."""
    wanted = [Addition("a@b.example"), Addition("b@b.example", note="half a pair: \ud800")]
    with pytest.raises(RefusedValueError):
        await store.add_many(wanted, actor="ann", idempotency_key=REQUEST)
    assert await store.count() == 0
    assert await stores.query(database_url, "SELECT count(*) FROM idempotent_requests") == [(0,)]
    (done,) = await store.add_many(wanted[:1], actor="ann", idempotency_key=REQUEST)
    assert done.outcome == "added"
