"""The allow-list: which rules there are, which one holds for an address, and what the log says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import NoSuchRuleError, ProtectedComplaintError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
JANE = "jane@example.org"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


async def holding(store: Store, *addresses: str) -> dict[str, str]:
    async with store._database.read() as connection:
        rules = await store.allow_list.rules_for(connection, addresses)
    return {address: rule.pattern for address, rule in rules.items()}


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        (" Jane@Example.ORG ", JANE),
        ("Example.ORG", "example.org"),
        ("@example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("@localhost", "localhost"),
        ("@[192.0.2.1]", "[192.0.2.1]"),
    ],
)
async def test_a_rule_stands_under_one_spelling(store: Store, pattern: str, key: str) -> None:
    """Of an address as of a domain; it is found and taken away by any other spelling."""
    put = await store.allow_list.put(pattern, actor="ann", note="our own")
    assert (put.rule.pattern, put.created, put.rule.created_at) == (key, True, NOW)
    assert await store.allow_list.get(pattern.upper()) == put.rule
    assert await store.allow_list.rules(limit=9) == [put.rule]
    assert await store.allow_list.delete(pattern.upper(), actor="bob", note="no more") == put.rule
    assert await store.allow_list.get(pattern) is None
    with pytest.raises(NoSuchRuleError):
        await store.allow_list.delete(pattern, actor="bob", note="")


@pytest.mark.parametrize(
    "pattern", ["", "@", "jane", "a b.org", "jane@", "x\x00.org", "a@b@c.org", "jane:org"]
)
async def test_what_is_neither_address_nor_domain_is_refused(store: Store, pattern: str) -> None:
    """Nothing is changed."""
    with pytest.raises(InvalidAddressError):
        await store.allow_list.put(pattern, actor="ann", note="")
    assert await store.allow_list.rules(limit=1) == []


async def test_the_rule_of_an_address_comes_before_that_of_its_domain(store: Store) -> None:
    """A domain stands for itself, not for its subdomains; of many addresses one query finds all rules."""
    for pattern in (JANE, "example.org"):
        await store.allow_list.put(pattern, actor="ann", note="")
    others = [f"{number}@example.net" for number in range(1200)]
    assert await holding(store, JANE, "joe@example.org", "joe@mail.example.org", *others) == {
        JANE: JANE,
        "joe@example.org": "example.org",
    }


async def test_a_rule_wins_over_what_events_did_but_over_complaints_only_by_force(store: Store) -> None:
    """And never over what a person has put on the list. Force needs the override, a name and a note."""
    plain = (await store.allow_list.put(JANE, actor="ann", note="")).rule
    assert {reason for reason in Reason if not plain.allows(reason)} == {Reason.MANUAL, Reason.COMPLAINT}
    for actor, note, override in (("ann", "asked us", False), (" ", "asked us", True), ("ann", " ", True)):
        with pytest.raises(ProtectedComplaintError):
            await store.allow_list.put(JANE, actor=actor, note=note, over_complaints=True, override=override)
    forced = await store.allow_list.put(
        JANE, actor="ann", note="asked us", over_complaints=True, override=True
    )
    assert not forced.created
    assert {reason for reason in Reason if not forced.rule.allows(reason)} == {Reason.MANUAL}


async def test_a_change_of_the_list_says_what_a_check_says(store: Store) -> None:
    """Also where a rule, of the address or its domain, wins over a reason: it is not in force."""
    joe = "joe@example.org"
    await store.allow_list.put("example.org", actor="ann", note="")
    await store.allow_list.put(joe, actor="ann", note="asked us", over_complaints=True, override=True)
    for address in (JANE, joe):
        for reason in (Reason.HARD_BOUNCE, Reason.COMPLAINT, Reason.MANUAL):
            await store.add(address, reason=reason, actor="ann", note="")
            said = (await store.history(address))[-1].reasons
            assert said == tuple(entry.reason for entry in await store.check(address))
    assert [one.reasons for one in await store.history(JANE)] == [
        (),
        (Reason.COMPLAINT,),
        (Reason.COMPLAINT, Reason.MANUAL),
    ]


async def test_each_change_of_the_rules_is_logged_once(store: Store, clock: Clock) -> None:
    """With who and why, and with what suppresses the address then; of a domain nobody knows whom it is about."""
    await store.add(JANE, reason=Reason.HARD_BOUNCE, actor="ann", note="")
    await store.add(JANE, actor="ann", note="")
    for _ in range(2):
        await store.allow_list.put(JANE, actor="ann", note="our own")
    clock.now += 9
    await store.allow_list.delete(JANE, actor="bob", note="left us")
    logged = [change.document() for change in (await store.history(JANE))[2:]]
    assert [
        (one["action"], one["reason"], one["actor"], one["note"], one.get("reasons")) for one in logged
    ] == [
        ("allowed", None, "ann", "our own", ["manual"]),
        ("disallowed", None, "bob", "left us", ["hard_bounce", "manual"]),
    ]
    await store.allow_list.put("example.org", actor="ann", note="")
    (change,) = (await store.outbox.pending(9))[4:]
    assert (change.action, change.address, change.reason, change.reasons) == (
        "allowed",
        "example.org",
        None,
        None,
    )
