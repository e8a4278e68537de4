"""The database user of `bridge api`: `bridge db grant` gives it what its work takes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from bridge.settings.list_sections import Suppression
from bridge.settings.subscribers import Subscriber
from bridge.suppression.additions import Addition
from bridge.suppression.address_keys import keys_of
from bridge.suppression.errors import StoreError
from bridge.suppression.idempotency import IdempotentRequest
from bridge.suppression.store import Store
from bridge.suppression.subscriber_registry import read_registered
from tests.support import postgres
from tests.support.commands import bridge
from tests.support.console import serving_console, settings_without_rabbitmq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEYS = keys_of(Suppression(privacy_keys=(f"k1:{'0123456789abcdef' * 4}",)))


@pytest.fixture
async def limited_url(postgresql_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a list, with a user who had every right, and then only those that the command gives."""
    name = f"api_{postgresql_url.rpartition('/')[2]}"
    environment = {"BRIDGE_SUPPRESSION__DATABASE_URL": postgresql_url}
    assert (await bridge("db", "upgrade", directory=tmp_path, **environment)).code == 0
    await postgres.execute(
        postgresql_url,
        f"CREATE ROLE {name} LOGIN PASSWORD '{postgres.PASSWORD}'",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
    )
    granted = await bridge("db", "grant", name, directory=tmp_path, **environment)
    assert (granted.code, granted.stderr) == (0, "")
    yield postgresql_url.replace(f"{postgres.OWNER}:", f"{name}:")
    await postgres.execute(postgresql_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_everything_that_the_api_does_works_with_its_rights(limited_url: str) -> None:
    """Checks, additions, removals, repeated requests, announcements, the allow-list, the feed, an erasure."""
    async with Store.open(limited_url, keys=KEYS, role="api") as store:
        for _ in range(2):
            await store.add_many(
                [Addition("jane@example.org"), Addition("joe@example.org")],
                actor="api:shop",
                idempotency_key=IdempotentRequest("api:shop:1", "fingerprint"),
            )
        await store.remember({"1": "jane@example.org"})
        await store.remember({"1": "joe@example.org"})
        for _ in range(2):
            await store.allow_list.put("example.com", actor="api:shop", note="")
        await store.allow_list.delete("example.com", actor="api:shop", note="")
        await store.remove("jane@example.org", reason=None, actor="api:shop", note="")
        assert [one.allowed for one in await store.check_many(["jane@example.org", "joe@example.org"])] == [
            True,
            False,
        ]
        await store.erasures.erase("joe@example.org", actor="api:shop")
        assert not (await store.check_many(["joe@example.org"]))[0].allowed
        assert len(await store.feed(0, 100)) >= 5
        assert await store.history("jane@example.org")
        assert await store.freshness.read() is None  # no worker has reported


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO handled_events VALUES ('e1', 1)",
        "SELECT * FROM handled_events",
        "UPDATE leases SET holder = 'me'",
        "UPDATE freshness SET caught_up_to = 4e9",
        "DELETE FROM changes",
        "DELETE FROM imports",
        "UPDATE alembic_version SET version_num = '0001'",
        "CREATE TABLE mine (id int)",
        "DROP TABLE suppressions",
    ],
)
async def test_what_is_not_its_work_is_refused(limited_url: str, statement: str) -> None:
    """It claims no event as handled, nor a list as fresh; the log of changes stays."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await postgres.execute(limited_url, statement)


async def test_without_the_grant_the_api_says_what_is_missing(limited_url: str, postgresql_url: str) -> None:
    """At its start, in one line; so a worker as this user."""
    name = limited_url.partition("//")[2].partition(":")[0]
    with pytest.raises(StoreError, match=r"may not .*INSERT on handled_events, .*have the owner grant it"):
        async with Store.open(limited_url):
            pass
    await postgres.execute(postgresql_url, f"REVOKE INSERT ON allow_rules FROM {name}")
    with pytest.raises(StoreError, match="may not INSERT on allow_rules: "):
        async with Store.open(limited_url, role="api"):
            pass


async def test_there_is_nobody_to_grant_it_to(postgresql_url: str, tmp_path: Path) -> None:
    """A user who does not exist, and SQLite: one line and exit code 1."""
    for url, said in (
        (postgresql_url, "nobody"),
        (f"sqlite+aiosqlite:///{tmp_path}/list", "SQLite has no users"),
    ):
        assert (
            await bridge("db", "upgrade", directory=tmp_path, BRIDGE_SUPPRESSION__DATABASE_URL=url)
        ).code == 0
        granted = await bridge(
            "db", "grant", "nobody", directory=tmp_path, BRIDGE_SUPPRESSION__DATABASE_URL=url
        )
        assert granted.code == 1
        assert said in granted.stderr
        assert granted.stderr.count("\n") == 1


async def test_the_console_sees_all_that_it_shows_with_its_rights(
    limited_url: str, postgresql_url: str, tmp_path: Path
) -> None:
    """The services that were registered, an address and its history, the list; it acts on them, too."""
    async with Store.open(postgresql_url) as store:
        await store.subscribers.reserve(Subscriber(queue="crm", events=("opened",)), actor="cli:ann")
        await store.subscribers.set_in_force("crm", in_force=True)
    assert (await read_registered(limited_url)).note is None
    section = {"suppression": {"database_url": limited_url, "privacy_keys": [f"k1:{'0123456789abcdef' * 4}"]}}
    async with serving_console(settings_without_rabbitmq(tmp_path, **section)) as console:
        await console.sign_in()
        for path in ("/", "/address", "/address/jane@example.org", "/list", "/subscribers"):
            page = await console.get(path)
            assert (page.status, "permission denied" in page.text) == (200, False), path
        added = await console.post("/address/jane@example.org/add", note="she asked us", reason="manual")
        assert added.status == 303, added.text
        assert "she asked us" in (await console.get("/address/jane@example.org")).text
