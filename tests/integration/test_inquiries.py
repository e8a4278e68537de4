"""What a person asks who looks for somebody: on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from bridge.settings.list_sections import Suppression
from bridge.suppression.address_keys import keys_of
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.inquiries import Found
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import Delivered, SuppressingEvent
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
KEY = SecretStr("k1:" + "5" * 64)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(
        database_url, clock=clock, keys=keys_of(Suppression(privacy_keys=(KEY,)))
    ) as opened:
        yield opened


async def searched(store: Store, text: str, limit: int = 10) -> list[str]:
    return [one.address for one in await store.inquiries.search(text, limit=limit)]


async def test_addresses_are_found_by_their_beginning(store: Store) -> None:
    """In any case, once for each address, in order, and no more than asked for."""
    for address in ("jane@example.org", "Janet@example.org", "jan@other.example", "bob@example.org"):
        await store.add(address, actor="x", note="")
    await store.add("jane@example.org", reason=Reason.COMPLAINT, actor="x", note="")
    assert await searched(store, "JAN") == ["jan@other.example", "jane@example.org", "janet@example.org"]
    assert await searched(store, "jan", limit=2) == ["jan@other.example", "jane@example.org"]
    assert await searched(store, " jane@e") == ["jane@example.org", "jane@e"]
    assert await searched(store, "nobody") == []
    assert await searched(store, "  ") == []


async def test_a_whole_address_is_found_known_or_not(store: Store) -> None:
    """The question is whether one may write to it: an address of which nothing is known has an answer, too, at the end."""
    await store.add("jane@example.org.test", actor="x", note="")
    assert await store.inquiries.search("Jane <JANE@example.org>", limit=5) == [
        Found("jane@example.org", known=False)
    ]
    found = [Found("jane@example.org.test", known=True), Found("jane@example.org", known=False)]
    assert await store.inquiries.search("jane@example.org", limit=2) == found
    await store.add("jane@example.org", actor="x", note="")
    assert await searched(store, "jane@example.org") == ["jane@example.org", "jane@example.org.test"]


async def test_a_domain_is_searched_behind_an_at_sign(store: Store) -> None:
    """Its beginning is enough; of an international domain the whole name, in either spelling."""
    for address in ("bob@example.org", "ann@example.org", "eve@examples.test", "kim@bücher.example"):
        await store.add(address, actor="x", note="")
    assert await searched(store, "@example") == ["ann@example.org", "bob@example.org", "eve@examples.test"]
    assert await searched(store, "@Bücher.example") == ["kim@xn--bcher-kva.example"]
    assert await searched(store, "@") == [
        "ann@example.org", "bob@example.org", "eve@examples.test", "kim@xn--bcher-kva.example"
    ]  # fmt: skip


async def test_what_was_on_the_list_is_found_and_what_is_allowed(store: Store) -> None:
    """As long as the log has it. Rules for domains are no addresses."""
    await store.add("gone@example.org", actor="x", note="")
    await store.remove("gone@example.org", reason=None, actor="x", note="")
    await store.allow_list.put("good@example.org", actor="x", note="")
    await store.allow_list.put("go.example", actor="x", note="")
    assert await store.inquiries.search("go", limit=10) == [
        Found("gone@example.org", known=True),
        Found("good@example.org", known=True),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "50%_off@example.org",
        "a/b'c@example.org",
        '"john doe"@example.org',
        "ünïcode@example.org",
        f"{'x' * 64}@{'y' * 60}.{'z' * 60}.{'w' * 60}.example",
        "emoji😀@example.org",
    ],
)
async def test_odd_addresses_are_found_letter_by_letter(store: Store, address: str) -> None:
    """Nothing in an address is a pattern, and no letter is too far back in the order."""
    await store.add(address, actor="x", note="")
    for end in range(1, len(address)):
        assert address in await searched(store, address[:end])
    assert (await store.inquiries.about(address)).entries[0].address == address


async def test_one_address_with_all_that_is_known(store: Store, clock: Clock) -> None:
    """What is in force, what the allow-list wins over, and what has ended are told apart."""
    await store.add("jane@example.org", reason=Reason.HARD_BOUNCE, actor="x", note="")
    await store.add("jane@example.org", reason=Reason.COMPLAINT, actor="x", note="")
    await store.add("jane@example.org", reason=Reason.SKIPPED, actor="x", note="", expires_at=NOW + 10)
    await store.allow_list.put("example.org", actor="ann", note="a partner")
    clock.now = NOW + 20
    known = await store.inquiries.about("Jane@Example.org")
    assert known.address == "jane@example.org"
    assert [entry.reason for entry in known.in_force] == [Reason.COMPLAINT]
    assert [entry.reason for entry in known.overruled] == [Reason.HARD_BOUNCE]
    assert [entry.reason for entry in known.ended] == [Reason.SKIPPED]
    assert known.rule is not None
    assert (known.rule.pattern, known.rule.note) == ("example.org", "a partner")
    assert (known.changes, known.at, known.erasure) == (3, NOW + 20, None)


async def test_soft_bounces_since_the_last_delivery(store: Store) -> None:
    """Those that are not enough to suppress are seen, too."""

    def bounce(number: int, at: int) -> SuppressingEvent:
        return SuppressingEvent("jane@example.org", Reason.SOFT_BOUNCE, f"e{number}", at, f"m{number}", b"{}")

    delivered = Delivered("jane@example.org", "d1", NOW - 50, "m1", b"{}")
    await store.record([bounce(1, NOW - 60), delivered, bounce(2, NOW - 40), bounce(3, NOW - 30)], actor="w")
    known = await store.inquiries.about("jane@example.org")
    assert (known.entries, known.soft_bounces, known.delivered_at) == ((), 2, NOW - 50)
    unknown = await store.inquiries.about("bob@example.org")
    assert (unknown.soft_bounces, unknown.delivered_at) == (0, None)


async def test_the_latest_changes_come_first_page_by_page(store: Store) -> None:
    """Behind the last of one page the next one begins."""
    for number in range(5):
        await store.add("jane@example.org", actor="x", note=str(number))
        await store.add("bob@example.org", actor="x", note="another's")
    first = await store.inquiries.latest_changes("jane@example.org", limit=2)
    second = await store.inquiries.latest_changes("jane@example.org", limit=9, before=first[-1].id)
    assert [change.note for change in (*first, *second)] == ["4", "3", "2", "1", "0"]


async def test_an_erased_person_is_found_by_the_address_and_by_the_hash(store: Store) -> None:
    """Whoever knows the address gets the answer; nobody sees the address who does not."""
    await store.add("jane@example.org", reason=Reason.COMPLAINT, actor="x", note="")
    erased = await store.erasures.erase("jane@example.org", actor="ann", note="she asked")
    assert await searched(store, "jan") == []
    assert await store.inquiries.search("jane@example.org", limit=5) == [
        Found("jane@example.org", known=True)
    ]
    assert await searched(store, erased.key[:20]) == [erased.key]
    for spelling in ("jane@example.org", erased.key):
        known = await store.inquiries.about(spelling)
        assert known.address == spelling
        assert [entry.address for entry in known.in_force] == [erased.key]
        assert known.erasure is not None
        assert (known.erasure.at, known.erasure.actor, known.erasure.note) == (NOW, "ann", "she asked")
        assert [change.action for change in await store.inquiries.latest_changes(spelling, limit=5)] == [
            "erased", "added"
        ]  # fmt: skip


async def test_a_list_of_hashes_is_found_by_whole_addresses(database_url: str) -> None:
    """Nobody can list the beginnings of addresses that are not kept."""
    keys = keys_of(Suppression(privacy="hmac", privacy_keys=(KEY,)))
    async with Store.open(database_url, keys=keys) as store:
        await store.add("jane@example.org", actor="x", note="")
        assert await searched(store, "jane@e") == ["jane@e"]
        assert await store.inquiries.search("jane@example.org", limit=5) == [
            Found("jane@example.org", known=True)
        ]
        assert (await searched(store, "hmac-sha256:k1:"))[0].startswith("hmac-sha256:k1:")
        assert len((await store.inquiries.about("jane@example.org")).in_force) == 1


async def test_what_is_no_address_is_refused(store: Store) -> None:
    """Nothing is known of it, and the error says why."""
    with pytest.raises(InvalidAddressError, match="no @-sign"):
        await store.inquiries.about("jane")
    with pytest.raises(InvalidAddressError, match="no @-sign"):
        await store.inquiries.latest_changes("jane", limit=1)
