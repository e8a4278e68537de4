"""Revision 0003: addresses that stand under keys of before are found under today's, in both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic import command

from bridge.suppression import migrating, opening
from bridge.suppression.store import Store
from tests.support import stores

if TYPE_CHECKING:
    from sqlalchemy import Connection

pytestmark = pytest.mark.no_list

FOR_GOOD = "NULL"

ENTRY = """
INSERT INTO suppressions (address, reason, original, first_event_at, last_event_at, count, message_id,
                          created_at, updated_at, expires_at)
VALUES ('{address}', '{reason}', 'Original of {address}', {at}, {at} + 50, {count}, 'm{at}', {at} + 10, {at} + 60, {expires})
"""
CHANGE = """
INSERT INTO changes (at, action, address, reason, actor, note, published_at)
VALUES (1000, 'added', '{address}', 'hard_bounce', 'worker', '{note}', 1000)
"""


@pytest.fixture
async def before(database_url: str) -> str:
    """The URL of a list as revision 0002 left it, with nobody on it."""

    def upgrade(connection: Connection) -> None:
        config = migrating._alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")

    async with opening.database_at(database_url) as database:
        database.check_before_connecting(create=True)
        async with database._migration() as connection:
            await connection.run_sync(upgrade)
    return database_url


def entry(
    address: str, reason: str = "hard_bounce", *, at: int = 1000, count: int = 1, expires: object = FOR_GOOD
) -> str:
    return ENTRY.format(address=address, reason=reason, at=at, count=count, expires=expires)


def change(address: str, note: str = "") -> str:
    return CHANGE.format(address=address, note=note)


async def entries(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (one.address, one.reason.value): {
            "original": one.original,
            "times": (one.first_event_at, one.last_event_at, one.created_at, one.updated_at),
            "count": one.count,
            "message": one.message_id,
            "expires": one.expires_at,
        }
        for one in await store.entries(limit=1000)
    }


async def test_entries_that_are_one_mailbox_become_one(before: str) -> None:
    """Counts are summed, the first and the last time kept, what first caused it stays, and "for good" wins."""
    await stores.execute(
        before,
        entry("jane@example.org", at=5000),
        entry("κς@example.org", at=2000, count=3, expires=9_000_000_000),
        entry("κσ@example.org", at=1000, count=4),
        entry("κσ@example.org", "complaint", at=3000),
        entry("ος@example.org", at=1000, expires=9_000_000_000),
        entry("οσ@example.org", at=2000, expires=9_500_000_000),
        entry('"a..b"@example.org', at=4000),
    )
    async with Store.open(before) as store:
        assert await entries(store) == {
            ("a..b@example.org", "hard_bounce"): {
                "original": 'Original of "a..b"@example.org',
                "times": (4000, 4050, 4010, 4060),
                "count": 1,
                "message": "m4000",
                "expires": None,
            },
            ("jane@example.org", "hard_bounce"): {
                "original": "Original of jane@example.org",
                "times": (5000, 5050, 5010, 5060),
                "count": 1,
                "message": "m5000",
                "expires": None,
            },
            ("κσ@example.org", "complaint"): {
                "original": "Original of κσ@example.org",
                "times": (3000, 3050, 3010, 3060),
                "count": 1,
                "message": "m3000",
                "expires": None,
            },
            ("κσ@example.org", "hard_bounce"): {
                "original": "Original of κσ@example.org",
                "times": (1000, 2050, 1010, 2060),
                "count": 7,
                "message": "m1000",
                "expires": None,
            },
            ("οσ@example.org", "hard_bounce"): {
                "original": "Original of ος@example.org",
                "times": (1000, 2050, 1010, 2060),
                "count": 2,
                "message": "m1000",
                "expires": 9_500_000_000,
            },
        }
        assert [one.reason.value for one in await store.check("ΚΣ@EXAMPLE.ORG")] == [
            "complaint",
            "hard_bounce",
        ]


async def test_an_address_keeps_its_history(before: str) -> None:
    """Its changes are found under the new key, in their order; that the key changed is one of them, still to be published."""
    await stores.execute(
        before,
        entry("κς@example.org"),
        entry("κσ@example.org"),
        entry('"a..b"@example.org'),
        change("κς@example.org", "one"),
        change("κσ@example.org", "two"),
        change("κς@example.org", "three"),
        change('"a..b"@example.org', "four"),
        change('"gone..since"@example.org', "five"),
    )
    async with Store.open(before) as store:
        seen = {
            address: [(one.action, one.actor, one.note) for one in await store.history(address)]
            for address in ("ΚΣ@example.org", "a..b@example.org", "gone..since@example.org")
        }
        assert seen == {
            "ΚΣ@example.org": [
                ("added", "worker", "one"),
                ("added", "worker", "two"),
                ("added", "worker", "three"),
                ("updated", "migration 0003", "until now on the list as κς@example.org"),
            ],
            "a..b@example.org": [
                ("added", "worker", "four"),
                ("added", "migration 0003", 'until now on the list as "a..b"@example.org'),
            ],
            "gone..since@example.org": [("added", "worker", "five")],
        }
        assert sorted((one.action, one.address) for one in await store.outbox.pending(10)) == [
            ("added", "a..b@example.org"),
            ("updated", "κσ@example.org"),
        ]


async def test_many_keys_change_at_once(before: str) -> None:
    """More than go into one statement; none is lost, and a key that is none stays."""
    await stores.execute(
        before,
        *(entry(f"{number}ς@example.org") for number in range(450)),
        *(entry(f"{number}σ@example.org") for number in range(0, 450, 2)),
        entry("no address at all"),
    )
    async with Store.open(before) as store:
        found = await entries(store)
    assert found.pop(("no address at all", "hard_bounce"))["count"] == 1
    assert {address: one["count"] for (address, _), one in found.items()} == {
        f"{number}σ@example.org": 2 - number % 2 for number in range(450)
    }
