"""A list that keeps hashes of addresses only: it answers as one with addresses does, and has none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.settings.list_sections import Suppression
from bridge.suppression.additions import Addition
from bridge.suppression.address_keys import keys_of
from bridge.suppression.errors import NoPrivacyKeyError
from bridge.suppression.idempotency import IdempotentRequest
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.suppression.address_keys import AddressKeys

NOW = 1_700_000_000
JANE, BOB = "jane.hashed@example.org", "bob.hashed@example.org"
OLD, NEW = "k1:" + "1" * 32, "k2:" + "2" * 32
TABLES = (
    "suppressions", "changes", "liftings", "known_messages", "soft_bounces", "deliveries", "allow_rules",
    "erasures", "idempotent_requests",
)  # fmt: skip


def keys(*given: str, privacy: str = "hmac") -> AddressKeys:
    return keys_of(Suppression.model_validate({"privacy": privacy, "privacy_keys": given}))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=Clock(NOW), keys=keys(OLD)) as opened:
        yield opened


def event(
    event_id: str, address: str, reason: Reason = Reason.HARD_BOUNCE, evidence: bytes = b"raw"
) -> SuppressingEvent:
    return SuppressingEvent(address, reason, event_id, NOW - 100, f"m-{event_id}", evidence)


async def addresses_in(database_url: str) -> dict[str, int]:
    """Table -> in how many rows is anything like one of the addresses."""
    found = {}
    for table in TABLES:
        rows = await stores.query(database_url, f"SELECT * FROM {table}")  # noqa: S608 -- a test's own
        if naming := sum("hashed@" in str(row).lower() for row in rows):
            found[table] = naming
    return found


async def test_it_answers_all_questions_and_has_no_address(store: Store, database_url: str) -> None:
    """Whoever has the address asks as ever; whoever has the tables cannot read it."""
    assert [
        done.outcome for done in await store.record([event("e1", "Jane.Hashed@example.ORG")], actor="worker")
    ] == ["added"]
    await store.remember({"m-1": JANE, "m-2": "not an address"})
    await store.add(BOB, actor="ann", note="by phone")
    wanted = [Addition(JANE), Addition("Carol.hashed@example.org")]
    request = IdempotentRequest("key", "fingerprint")
    first = await store.add_many(wanted, actor="api", idempotency_key=request)
    assert await store.add_many(wanted, actor="api", idempotency_key=request) == first
    await store.allow_list.put(BOB, actor="ann", note="")
    await store.remove("BOB.hashed@example.org", reason=None, actor="ann", note="")
    assert await addresses_in(database_url) == {}
    entries = await store.check(JANE.upper())
    assert [(entry.reason, entry.original) for entry in entries] == [
        (Reason.HARD_BOUNCE, ""),
        (Reason.MANUAL, ""),
    ]
    assert [entry.evidence for entry in entries] == [b"raw", None]
    asked = await store.check_many(
        [JANE, BOB, "carol.hashed@example.org", "nobody@example.org", entries[0].address]
    )
    assert [one.allowed for one in asked] == [False, True, False, True, False]
    assert len(await store.entries(limit=10)) == 3
    assert [change.action for change in await store.history(BOB)] == ["added", "allowed", "removed"]
    assert await store.history(entries[0].address) == await store.history(JANE)
    assert await store.known_addresses(["m-1", "m-2"]) == {"m-1": keys(OLD).written(JANE)}


async def test_an_event_of_a_message_that_is_known_by_a_hash_is_counted(store: Store) -> None:
    """The worker gets the hash in the place of the address."""
    await store.remember({"m-1": JANE})
    known = await store.known_addresses(["m-1"])
    await store.record([event("e1", known["m-1"])], actor="worker")
    await store.record([event("e2", JANE)], actor="worker")
    assert [entry.count for entry in await store.check(JANE)] == [2]


async def test_an_event_with_anything_like_an_address_in_it_is_no_evidence(
    store: Store, database_url: str
) -> None:
    """The provider's events have none; whatever has one is not kept, in the list or its log."""
    await store.record([event("e1", JANE, evidence=b'{"to": "jane.hashed@example.org"}')], actor="worker")
    await store.record([event("e2", BOB, evidence=b"jane.hashed%40example.org")], actor="worker")
    assert [entry.evidence for entry in await store.check(JANE) + await store.check(BOB)] == [None, None]
    assert await addresses_in(database_url) == {}


async def test_with_a_new_key_the_list_goes_on_and_moves_to_it(store: Store, database_url: str) -> None:
    """What stands under the old key is found, and counts on under the new one as soon as the address comes again."""
    await store.record(
        [event("e1", JANE), event("e2", JANE, Reason.COMPLAINT), event("e3", BOB)], actor="worker"
    )
    await store.remove(BOB, reason=None, actor="ann", note="")
    new = keys(NEW, OLD)
    async with Store.open(database_url, clock=Clock(NOW + 1), keys=new) as rotated:
        assert [one.allowed for one in await rotated.check_many([JANE, BOB])] == [False, True]
        assert {entry.address for entry in await rotated.check(JANE)} == {keys(OLD).written(JANE)}
        recorded = await rotated.record(
            [event("e1", JANE), event("e4", JANE), event("e5", BOB)], actor="worker"
        )
        assert [one.outcome for one in recorded] == ["repeated", "updated", "outdated"]
        entries = await rotated.check(JANE)
        assert [(entry.address, entry.reason, entry.count) for entry in entries] == [
            (new.written(JANE), Reason.COMPLAINT, 1),
            (new.written(JANE), Reason.HARD_BOUNCE, 2),
        ]
        assert [change.action for change in await rotated.history(JANE)] == ["added", "added", "updated"]
    async with Store.open(database_url, keys=keys(NEW)) as without_old:
        assert len(await without_old.check(JANE)) == 2
        assert len(await without_old.history(BOB)) == 2


async def test_a_list_of_addresses_is_found_when_it_keeps_hashes_from_now_on(database_url: str) -> None:
    """What is still in plain text is checked, and becomes a hash as soon as the address comes again."""
    async with Store.open(database_url, clock=Clock(NOW)) as plain:
        await plain.record([event("e1", JANE), event("e2", BOB)], actor="worker")
        await plain.allow_list.put(JANE, actor="ann", note="")
    async with Store.open(database_url, clock=Clock(NOW), keys=keys(OLD)) as hashed:
        assert [one.allowed for one in await hashed.check_many([JANE, BOB])] == [True, False]
        await hashed.record([event("e3", JANE)], actor="worker")
        assert [one.allowed for one in await hashed.check_many([JANE, BOB])] == [True, False]
        assert await addresses_in(database_url) == {"suppressions": 1, "changes": 1}
        (entry,) = await hashed.entries_of(JANE)
        assert (entry.count, entry.original, entry.first_event_at) == (2, "", NOW - 100)


@pytest.mark.parametrize("privacy", ["plain", "hmac"])
async def test_what_comes_of_an_erased_person_is_counted_under_the_hash(
    database_url: str, privacy: str
) -> None:
    """Events, announcements and additions: none of them brings the address back, nor what leads to it."""
    async with Store.open(database_url, clock=Clock(NOW), keys=keys(OLD, privacy=privacy)) as store:
        await store.record([event("e1", JANE)], actor="worker")
        done = await store.erasures.erase(JANE, actor="ann")
        assert [one.allowed for one in await store.check_many([JANE])] == [False]
        await store.record([event("e2", JANE)], actor="worker", addresses={"m-2": JANE})
        await store.remember({"m-3": JANE, "m-4": "somebody@example.org"})
        await store.add_many(
            [Addition(JANE, Reason.COMPLAINT)], actor="api", idempotency_key=IdempotentRequest("key", "f")
        )
        assert await addresses_in(database_url) == {}
        entries = await store.check(JANE)
        assert [(entry.address, entry.reason, entry.count, entry.message_id) for entry in entries] == [
            (done.key, Reason.COMPLAINT, 1, None),
            (done.key, Reason.HARD_BOUNCE, 2, None),
        ]
        assert [change.message_id for change in await store.history(JANE)] == [None] * 4
        assert (await store.known_addresses(["m-2", "m-3"])) == {"m-2": done.key, "m-3": done.key}
        await store.remove(JANE, reason=None, actor="ann", note="asked again", override=True)
        assert [one.allowed for one in await store.check_many([JANE])] == [True]


async def test_a_list_of_addresses_is_hashed_as_a_whole(database_url: str) -> None:
    """Entries, history, removals, rules and known messages; it is the same list, and rules for domains stay."""
    everyone = [f"person{number}.hashed@example.org" for number in range(103)]
    async with Store.open(database_url, clock=Clock(NOW)) as plain:
        await plain.record([event(f"e{number}", who) for number, who in enumerate(everyone)], actor="worker")
        await plain.remember({f"m-{number}": who for number, who in enumerate(everyone)} | {"m-x": "nobody"})
        await plain.remove(everyone[0], reason=None, actor="ann", note="")
        await plain.allow_list.put(everyone[1], actor="ann", note="")
        await plain.allow_list.put("example.com", actor="ann", note="")
        before = [(one.allowed, one.reasons) for one in await plain.check_many(everyone)]
        with pytest.raises(NoPrivacyKeyError, match=r"suppression\.privacy = hmac"):
            await plain.hashing.hash_all(lambda _: None)
    progress: list[int] = []
    async with Store.open(database_url, clock=Clock(NOW), keys=keys(OLD)) as hashed:
        assert await hashed.hashing.hash_all(progress.append) == sum(progress) == 103 + 103 + 1
        assert await addresses_in(database_url) == {}
        assert [(one.allowed, one.reasons) for one in await hashed.check_many(everyone)] == before
        assert [change.action for change in await hashed.history(everyone[0])] == ["added", "removed"]
        assert await hashed.allow_list.get("example.com") is not None
        assert (await hashed.known_addresses(["m-5", "m-x"])) == {"m-5": keys(OLD).written(everyone[5])}
        assert await hashed.hashing.hash_all(progress.append) == 0


async def test_it_is_counted_what_stands_under_which_key(store: Store, database_url: str) -> None:
    """When nothing stands under the old key any more, it can go from the settings."""
    await store.record([event("e1", JANE), event("e2", BOB)], actor="worker")
    async with Store.open(database_url, clock=Clock(NOW), keys=keys(NEW, OLD)) as rotated:
        await rotated.record([event("e3", JANE)], actor="worker")
        counts = {count.key_id: count.rows for count in await rotated.hashing.count_keys()}
        assert [(key_id, rows["entries"], rows["changes"]) for key_id, rows in counts.items()] == [
            ("", 0, 0), ("k2", 1, 2), ("k1", 1, 1),
        ]  # fmt: skip
    async with Store.open(database_url, keys=keys(NEW)) as without_old:
        counts = {count.key_id: count.rows for count in await without_old.hashing.count_keys()}
        assert counts["?"]["entries"] == 1


async def test_it_is_noticed_when_the_keys_of_the_hashes_are_missing(store: Store, database_url: str) -> None:
    """A worker without them would write the addresses of erased persons again."""
    async with Store.open(database_url) as without:
        assert not await without.hashing.lacks_keys()
        await store.record([event("e1", JANE)], actor="worker")
        assert await without.hashing.lacks_keys()
    assert not await store.hashing.lacks_keys()
