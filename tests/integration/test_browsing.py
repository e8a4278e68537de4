"""The list for people who look through it, step by step: on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.suppression.browsing import Counted, Place
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.suppression.entries import Entry

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
ENTRIES = 24


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    """Entries of three reasons and two domains; several were made in one second, and each third one ends."""
    async with Store.open(database_url, clock=clock) as opened:
        for number in range(ENTRIES):
            clock.now = NOW + number // 4
            await opened.add(
                f"p{number * 7 % ENTRIES:02}@{'example.org' if number % 2 else 'other.example'}",
                reason=(Reason.MANUAL, Reason.COMPLAINT, Reason.UNSUBSCRIBE)[number % 3],
                actor="x",
                note="",
                expires_at=NOW + 100 + number // 6 if number % 3 == 0 else None,
            )
        yield opened


async def walked(store: Store, wanted: ListFilter, *, limit: int, look_at: int) -> list[Entry]:
    """All entries that fit, in the order of the steps."""
    found: list[Entry] = []
    place: Place | None = None
    while True:
        part = await store.browsing.step(wanted, limit=limit, after=place, look_at=look_at)
        assert len(part.entries) <= limit
        found += part.entries
        if part.following is None:
            return found
        assert part.following != place
        place = part.following


@pytest.mark.parametrize(
    "wanted",
    [
        ListFilter(),
        ListFilter(reason=Reason.COMPLAINT),
        ListFilter(reason=Reason.SKIPPED),
        ListFilter(text="P1"),
        ListFilter(domain="example.org"),
        ListFilter(domain="example.org", reason=Reason.MANUAL, text="0"),
        ListFilter(changed_since=NOW + 3),
        ListFilter(changed_since=NOW + 99),
        ListFilter(changed_since=NOW + 2, domain="example.org", reason=Reason.COMPLAINT),
        ListFilter(expiring_before=NOW + 102),
        ListFilter(expiring_before=NOW + 103, domain="other.example", text="p"),
        ListFilter(expiring_before=NOW + 103, changed_since=NOW + 1),
    ],
    ids=str,
)
async def test_steps_find_what_pages_find(store: Store, wanted: ListFilter) -> None:
    """Each entry once, whatever is asked for and however short the steps are; and as many as are counted."""
    expected = await store.entries(wanted, limit=ENTRIES)
    keys = {(entry.address, entry.reason) for entry in expected}
    for limit, look_at in ((1, 1), (2, 3), (5, 2), (100, 5), (100, 100)):
        found = await walked(store, wanted, limit=limit, look_at=look_at)
        assert [(entry.address, entry.reason) for entry in found] == [
            (entry.address, entry.reason) for entry in sorted(found, key=_order(wanted))
        ]
        assert len(found) == len(keys)
        assert {(entry.address, entry.reason) for entry in found} == keys
    assert await store.browsing.count(wanted, seconds=60, look_at=5) == Counted(len(keys), complete=True)


def _order(wanted: ListFilter) -> Callable[[Entry], tuple[int, str, str]]:
    def place(entry: Entry) -> tuple[int, str, str]:
        if wanted.changed_since is not None:
            return -entry.updated_at, entry.address, entry.reason
        return (
            (entry.expires_at or 0) if wanted.expiring_before is not None else 0,
            entry.address,
            entry.reason,
        )

    return place


async def test_a_step_ends_though_nothing_fits(store: Store) -> None:
    """Where what is wanted is rare, a step finds nothing and says where to go on: it looks at no more than it may."""
    part = await store.browsing.step(ListFilter(text="p23"), limit=10, look_at=5)
    assert part.entries == []
    assert part.following is not None
    assert part.following.address == "p05@example.org"


async def test_counting_ends_when_its_time_is_over(store: Store) -> None:
    """What is counted until then is said to be a part."""
    assert await store.browsing.count(ListFilter(text="p"), seconds=0, look_at=5) == Counted(
        6, complete=False
    )
    assert await store.browsing.count(seconds=0) == Counted(ENTRIES, complete=True)


async def test_a_step_goes_on_where_entries_come_and_go(store: Store, clock: Clock) -> None:
    """What is changed meanwhile stands before the place, and what is gone is not missed."""
    wanted = ListFilter(changed_since=NOW + 1)
    first = await store.browsing.step(wanted, limit=3)
    clock.now = NOW + 50
    last = first.entries[-1]
    await store.remove(last.address, reason=last.reason, actor="x", note="x", override=True)
    await store.add("new@example.org", actor="x", note="")
    rest = await store.browsing.step(wanted, limit=100, after=first.following)
    assert len(rest.entries) == ENTRIES - 4 - 3
    assert rest.following is None
