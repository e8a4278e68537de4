"""Asking the list for many addresses at once, and for one at a time in the past: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.suppression import writing
from bridge.suppression.address_keys import PLAIN, KeyedAddresses, PrivacyKey
from bridge.suppression.checking import Checked, InForce
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
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


async def test_each_address_has_its_answer_in_the_order_asked(store: Store) -> None:
    """Allowed ones, suppressed ones with all reasons, repeated ones in another spelling, and what is no address."""
    bounce = SuppressingEvent("Jane@Example.org", Reason.HARD_BOUNCE, "e1", NOW - 50, "m1", b"{}")
    await store.record([bounce], actor="worker")
    await store.add("jane@example.org", actor="ann", note="", expires_at=NOW + 60)
    jane = "jane@example.org"
    reasons = (
        InForce(Reason.HARD_BOUNCE, NOW - 50, None),
        InForce(Reason.MANUAL, NOW, NOW + 60),
    )
    suppressed = Checked(jane, allowed=False, reasons=reasons)
    answers = await store.check_many(
        [
            "joe@example.org",
            jane,
            "nobody",
            " JANE@example.ORG",
            "Joe <joe@example.org>",
            "jo@ex.org\nb@ex.org",
        ]
    )
    assert answers[:2] == [Checked("joe@example.org", allowed=True), suppressed]
    assert (answers[2].address, answers[2].allowed) == (None, False)
    assert answers[2].error == "not an e-mail address: it has no @-sign"
    assert answers[3:5] == [suppressed, Checked("joe@example.org", allowed=True)]
    assert answers[5].error is not None
    assert await store.check_many([]) == []
    assert answers[1].document() == {
        "address": jane,
        "allowed": False,
        "reasons": [
            {"reason": "hard_bounce", "since": "2023-11-14T22:12:30Z", "expires": None},
            {"reason": "manual", "since": "2023-11-14T22:13:20Z", "expires": "2023-11-14T22:14:20Z"},
        ],
        "allow_rule": None,
        "error": None,
    }


async def test_ten_thousand_at_once(store: Store) -> None:
    """As many as the API takes, of which every hundredth is suppressed; and it is what `check` says of each."""
    listed = [SuppressingEvent(f"a{one}@example.org", Reason.COMPLAINT, f"e{one}", NOW, "m", b"")
              for one in range(0, 10_000, 100)]  # fmt: skip
    await store.record(listed, actor="worker")
    answers = await store.check_many([f"A{one}@Example.org" for one in range(10_000)])
    assert [number for number, answer in enumerate(answers) if not answer.allowed] == list(
        range(0, 10_000, 100)
    )
    assert [entry.reason for entry in await store.check("a300@example.org")] == [Reason.COMPLAINT]


async def test_what_has_ended_allows_at_once(store: Store, clock: Clock) -> None:
    """In the second in which an entry ends, whether somebody has cleaned it up or not."""
    await store.add("jane@example.org", actor="ann", note="", expires_at=NOW + 60)
    clock.now = NOW + 59
    assert not (await store.check_many(["jane@example.org"]))[0].allowed
    clock.now = NOW + 60
    assert (await store.check_many(["jane@example.org"]))[0].allowed


async def test_was_it_suppressed_then(store: Store, clock: Clock) -> None:
    """The change log answers for any second: before, while, between, and after the end of what was to end."""
    jane = "jane@example.org"
    await store.add(jane, actor="ann", note="", expires_at=NOW + 100)
    clock.now = NOW + 10
    await store.add(jane, reason=Reason.COMPLAINT, actor="ann", note="")
    clock.now = NOW + 20
    await store.remove(jane, reason=Reason.COMPLAINT, actor="ann", note="she asked for it", override=True)
    clock.now = NOW + 500
    said = {
        at: tuple((await store.suppressed_at(jane, NOW + at)).reasons) for at in (-1, 0, 10, 19, 20, 99, 100)
    }
    manual = (Reason.MANUAL,)
    both = (Reason.COMPLAINT, Reason.MANUAL)
    assert said == {-1: (), 0: manual, 10: both, 19: both, 20: manual, 99: manual, 100: ()}
    assert (await store.suppressed_at(jane, NOW - 1)).change is None
    newest = (await store.history(jane))[-1]
    assert (await store.suppressed_at(jane, NOW + 500)).change == newest.id


async def test_the_allow_list_wins_over_what_it_may(store: Store) -> None:
    """A domain or an address is allowed, what a person added is not; and one and many are answered alike."""
    for name, reason in {"a": Reason.HARD_BOUNCE, "b": Reason.MANUAL, "c": Reason.COMPLAINT}.items():
        await store.add(f"{name}@example.org", reason=reason, actor="ann", note="")
    await store.add("b@example.org", reason=Reason.UNSUBSCRIBE, actor="ann", note="")
    await store.allow_list.put("example.org", actor="ann", note="")
    await store.allow_list.put("a@example.org", actor="ann", note="")
    answers = await store.check_many([f"{name}@example.org" for name in "abcd"])
    assert [
        (one.allowed, [reason.reason for reason in one.reasons], one.allow_rule) for one in answers
    ] == [
        (True, [], "a@example.org"),
        (False, [Reason.MANUAL], "example.org"),
        (False, [Reason.COMPLAINT], None),
        (True, [], None),
    ]  # fmt: skip
    alone = [[entry.reason for entry in await store.check(f"{name}@example.org")] for name in "abcd"]
    assert alone == [[], [Reason.MANUAL], [Reason.COMPLAINT], []]
    assert [entry.reason for entry in await store.entries_of("b@example.org")] == [
        Reason.MANUAL, Reason.UNSUBSCRIBE
    ]  # fmt: skip


async def test_an_address_is_found_under_each_of_its_keys(database_url: str, clock: Clock) -> None:
    """In plain text, and by the old and the new privacy key: as one answer; what is written moves to the newest."""
    jane = "jane@example.org"
    old, new = PrivacyKey("k1", b"s" * 32), PrivacyKey("k2", b"t" * 32)
    for keys in (PLAIN, KeyedAddresses([old], hashes=True), KeyedAddresses([new, old], hashes=True)):
        async with Store.open(database_url, clock=clock, keys=keys) as store:
            await store.add(jane, actor="ann", note="", expires_at=clock.now + 60)
            answer = (await store.check_many(["nobody", "Jane@example.org"]))[1]
            listed = await store.entries_of(jane)
            clock.now += 1
    assert [entry.count for entry in listed] == [3]
    assert answer == Checked(jane, allowed=False, reasons=(InForce(Reason.MANUAL, NOW, NOW + 62),))


async def test_a_check_does_not_wait_for_a_writer(store: Store) -> None:
    """It answers what was committed, while another transaction has changed the list and goes on."""
    jane = "jane@example.org"
    async with store._database.write() as connection:
        await writing.upsert_entries(
            connection, [writing.Cause(jane, jane, Reason.MANUAL, at=NOW)], actor="ann", now=NOW
        )
        async with asyncio.timeout(90):
            assert await store.check_many([jane]) == [Checked(jane, allowed=True)]
            assert await store.entries(limit=9) == []
    assert not (await store.check_many([jane]))[0].allowed
