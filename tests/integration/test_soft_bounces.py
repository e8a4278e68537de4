"""Soft bounces on the list: enough of them suppress an address for a while, and a delivery ends that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.suppression.policy import Policy, Reason, SoftBounceRule
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import Delivered, SuppressingEvent
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
JANE = "jane@example.org"
RULE = SoftBounceRule(threshold=2, window=100, expiry=50, factor=2.0, expiry_max=150)
POLICY = Policy(["soft_bounced", "hard_bounced"], soft_bounces=RULE)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock, policy=POLICY) as opened:
        yield opened


def bounced(at: int, name: str = "", address: str = JANE) -> SuppressingEvent:
    """Each of another message."""
    name = name or f"{address}-{at}"
    return SuppressingEvent(address, Reason.SOFT_BOUNCE, f"e-{name}", NOW + at, f"m-{name}", name.encode())


def delivered(at: int, address: str = JANE) -> Delivered:
    return Delivered(address, f"d-{at}", NOW + at, f"dm-{at}", b"delivered")


async def outcomes(store: Store, *happened: SuppressingEvent | Delivered) -> list[str]:
    return [recorded.outcome for recorded in await store.record(happened, actor="worker")]


async def logged(store: Store) -> list[tuple[str, str, str | None, list[str]]]:
    """Of each change what, why, by which event, and what suppresses the address after it."""
    return [
        (change.action, change.note, change.event_id, [one.value for one in change.reasons or ()])
        for change in await store.history(JANE)
    ]


async def test_enough_soft_bounces_suppress_and_the_entry_says_which(store: Store) -> None:
    """Until then each is only counted; a repeat is none."""
    assert await outcomes(store, bounced(-10), bounced(-10)) == ["counted", "repeated"]
    assert await store.check(JANE) == []
    assert await outcomes(store, bounced(-5)) == ["added"]
    (entry,) = await store.check(JANE)
    assert (entry.reason, entry.count, entry.first_event_at, entry.last_event_at, entry.expires_at) == (
        Reason.SOFT_BOUNCE,
        2,
        NOW - 10,
        NOW - 5,
        NOW + 45,
    )
    assert (entry.message_id, entry.evidence) == (f"m-{JANE}--5", f"{JANE}--5".encode())
    assert await outcomes(store, bounced(-1)) == ["counted"]
    assert await store.check(JANE) == [entry]
    assert await logged(store) == [("added", "", f"e-{JANE}--5", ["soft_bounce"])]


async def test_a_delivery_ends_what_soft_bounces_began(store: Store) -> None:
    """The log names it; the other reasons stay; an older delivery does nothing, and what bounced before it is outdated."""
    hard = SuppressingEvent(JANE, Reason.HARD_BOUNCE, "h", NOW - 9, "m", b"{}")
    await outcomes(store, bounced(-10), bounced(-5), hard)
    assert await outcomes(store, delivered(-6), delivered(-20)) == ["counted", "counted"]
    assert [entry.reason for entry in await store.check(JANE)] == [Reason.HARD_BOUNCE]
    assert (await logged(store))[2:] == [("removed", "delivered", "d--6", ["hard_bounce"])]
    assert await outcomes(store, bounced(-8), bounced(-6, "same second"), bounced(-4)) == [
        "outdated",
        "outdated",
        "added",
    ], "one of the first two was left"
    assert await outcomes(store, delivered(-3)) == ["counted"]
    assert await outcomes(store, delivered(-3), delivered(-2)) == ["counted"] * 2
    assert (await logged(store))[3:] == [
        ("added", "", f"e-{JANE}--4", ["hard_bounce", "soft_bounce"]),
        ("removed", "delivered", "d--3", ["hard_bounce"]),
    ]


async def test_it_ends_by_itself_and_the_next_time_is_longer(store: Store, clock: Clock) -> None:
    """For a check at once; the log has the end before the next beginning, whether it was taken off by then or not."""
    await outcomes(store, bounced(0), bounced(1))
    clock.now = NOW + 51
    assert await store.check(JANE) == []
    assert await outcomes(store, bounced(51), bounced(51, "other")) == ["counted", "added"]
    (entry,) = await store.check(JANE)
    assert entry.expires_at == NOW + 51 + 100
    clock.now = NOW + 151
    assert await store.expiry.end_some() == {Reason.SOFT_BOUNCE: 1}
    assert await store.expiry.end_some() == {}
    assert [(action, reasons) for action, _, _, reasons in await logged(store)] == [
        ("added", ["soft_bounce"]),
        ("expired", []),
        ("added", ["soft_bounce"]),
        ("expired", []),
    ]
    ended = (await store.history(JANE))[-1]
    assert (ended.actor, ended.message_id, ended.evidence) == ("policy", "m-other", b"other")


async def test_what_a_person_has_taken_off_needs_enough_newer_bounces(store: Store, clock: Clock) -> None:
    """Late ones do not count; and it is a first time again."""
    await outcomes(store, bounced(-10), bounced(-5))
    await store.remove(JANE, reason=Reason.SOFT_BOUNCE, actor="ann", note="mailbox was full")
    assert await outcomes(store, bounced(-4), bounced(0)) == ["outdated", "outdated"]
    clock.now += 20
    assert await outcomes(store, bounced(1)) == ["counted"]
    assert await store.check(JANE) == []
    assert await outcomes(store, bounced(2)) == ["added"]
    (entry,) = await store.check(JANE)
    assert entry.expires_at == NOW + 52


async def test_what_a_person_has_added_stays(store: Store, clock: Clock) -> None:
    """No delivery ends it, and soft bounces only make it last longer; added on top of theirs, it is the person's."""
    await store.add(JANE, reason=Reason.SOFT_BOUNCE, actor="ann", note="always full", expires_at=NOW + 30)
    assert await outcomes(store, bounced(-10), bounced(-5), delivered(-1)) == [
        "outdated",
        "outdated",
        "counted",
    ]
    assert [entry.expires_at for entry in await store.check(JANE)] == [NOW + 30]
    assert await outcomes(store, bounced(0), bounced(1)) == ["counted", "updated"]
    (entry,) = await store.check(JANE)
    assert (entry.expires_at, entry.count, entry.message_id) == (NOW + 51, 1, None)
    joe = "joe@example.org"
    await outcomes(store, bounced(0, address=joe), bounced(1, address=joe))
    await store.add(joe, reason=Reason.SOFT_BOUNCE, actor="ann", note="always full", expires_at=NOW + 90)
    await outcomes(store, delivered(2, joe))
    assert [entry.expires_at for entry in await store.check(joe)] == [NOW + 90]
    clock.now += 90
    assert await store.check(joe) == []


async def test_a_late_bounce_can_show_that_it_is_over(store: Store, clock: Clock) -> None:
    """It would have suppressed the address earlier, and that would have ended by now."""
    clock.now = NOW + 70
    await outcomes(store, bounced(10), bounced(60))
    assert [entry.expires_at for entry in await store.check(JANE)] == [NOW + 110]
    assert await outcomes(store, bounced(11)) == ["counted"]
    assert await store.check(JANE) == []
    assert [action for action, _, _, _ in await logged(store)] == ["added", "expired"]


async def test_other_settings_count_from_the_next_event_on(database_url: str, store: Store) -> None:
    """What is no longer enough is taken off then, and the log says why."""
    await outcomes(store, bounced(-10), bounced(-5))
    stricter = Policy(["soft_bounced"], soft_bounces=SoftBounceRule(threshold=4))
    async with Store.open(database_url, clock=Clock(NOW), policy=stricter) as other:
        assert await outcomes(other, bounced(-4)) == ["counted"]
        assert await other.check(JANE) == []
    assert (await logged(store))[1:] == [("removed", "not enough soft bounces", None, [])]


async def test_many_addresses_at_once(store: Store) -> None:
    """More than one statement of SQLite takes; each has an entry of its own."""
    addresses = [f"person{number}@example.org" for number in range(1100)]
    happened = [bounced(at, address=address) for at in (-3, -2) for address in addresses]
    assert (await outcomes(store, *happened)).count("added") == len(addresses)
    assert len(await store.entries(limit=9999)) == len(addresses)
    await store.record([delivered(-1, address) for address in addresses], actor="worker")
    assert await store.entries(limit=9) == []
