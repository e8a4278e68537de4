"""`bridge db`: the revision of either database, and how it gets the newest."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support import stores
from tests.support.commands import Outcome, bridge
from tests.support.postgres import PASSWORD, Server
from tests.support.stores import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_list


@pytest.fixture
def name(database_url: str) -> str:
    """As the commands call the database: without user and password."""
    return database_url.rpartition("@")[2].removeprefix("sqlite+aiosqlite:///")


async def db(url: str, folder: Path, *arguments: str) -> Outcome:
    return await bridge("db", *arguments, directory=folder, BRIDGE_SUPPRESSION__DATABASE_URL=url)


async def test_an_upgrade_makes_the_tables_and_a_second_one_nothing(
    database_url: str, name: str, tmp_path: Path
) -> None:
    """It says from where to where; a program reads the same."""
    assert await db(database_url, tmp_path, "upgrade") == (
        0,
        f"{name} has revision {NEWEST} now (before: nothing)\n",
        "",
    )
    assert await db(database_url, tmp_path, "upgrade") == (0, f"{name} has revision {NEWEST} already\n", "")
    again = await db(database_url, tmp_path, "upgrade", "--json")
    assert json.loads(again.stdout) == {"database": name, "before": NEWEST, "revision": NEWEST}
    assert (
        await db(database_url, tmp_path, "status")
    ).stdout == f"{name}: revision {NEWEST}, newest {NEWEST}\n"


async def test_the_status_of_an_empty_database_asks_for_an_upgrade(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Exit code 3, and nothing is made."""
    name = postgresql_url.rpartition("@")[2]
    for _ in range(2):
        seen = await db(postgresql_url, tmp_path, "status", "--json")
        assert (seen.code, json.loads(seen.stdout)) == (
            3,
            {"database": name, "revision": None, "newest": NEWEST, "needs_upgrade": True},
        )


async def test_the_status_of_a_newer_database_is_an_error(database_url: str, tmp_path: Path) -> None:
    """Neither `status` nor `upgrade` takes it for one of ours."""
    await db(database_url, tmp_path, "upgrade")
    await stores.execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    for command in ("status", "upgrade"):
        seen = await db(database_url, tmp_path, command)
        assert seen.code == 1
        assert "newer" in seen.stderr
        assert seen.stderr.count("\n") == 1


async def test_an_upgrade_waits_for_a_database_that_starts(tmp_path: Path) -> None:
    """As in Compose, where both start at once."""
    async with Server.running() as server:
        await server.stop()
        upgrade = asyncio.create_task(db(server.url(), tmp_path, "upgrade", "--wait", "30"))
        await server.start()
        assert (await upgrade).code == 0


async def test_an_upgrade_does_not_wait_for_ever(tmp_path: Path) -> None:
    """One line that names the database, without its password; exit code 1."""
    url = f"postgresql://bridge:{PASSWORD}@127.0.0.1:1/list"
    seen = await db(url, tmp_path, "upgrade", "--wait", "0.5")
    assert (seen.code, seen.stdout) == (1, "")
    assert seen.stderr.startswith("bridge: the suppression list 127.0.0.1:1/list cannot be used now: ")
    assert seen.stderr.count("\n") == 1
    assert PASSWORD not in seen.stderr


async def test_a_wrong_password_is_not_waited_for(postgresql_url: str, tmp_path: Path) -> None:
    """Waiting would not make it right."""
    url = postgresql_url.replace(PASSWORD, "another-one")
    seen = await db(url, tmp_path, "upgrade", "--wait", "600")
    assert (seen.code, seen.stdout) == (1, "")
    assert "password authentication failed" in seen.stderr
    assert "another-one" not in seen.stderr
