"""The API and its console while the database is away: at the start, and later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge.suppression.errors import StoreError
from tests.support.console import READER, WRITER, serving_console, settings_without_rabbitmq, token_of
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.console import ConsoleClient

DOWN = "The database of the suppression list does not answer"
PATIENCE_SECONDS = 90

pytestmark = pytest.mark.quick


async def check(console: ConsoleClient) -> tuple[int, Any]:
    """What a service is answered that asks about an address."""
    url = console.base.removesuffix("/console") + "/v1/suppressions/jane@example.org"
    headers = {"Authorization": f"Bearer {token_of(READER)}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def until_answered(console: ConsoleClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await check(console))[0] != 200 or DOWN in (await console.get("/dead-letters")).text:
            pass


async def test_it_listens_before_its_database_answers(postgresql_list: str, tmp_path: Path) -> None:
    """Requests about the list are answered 503, the console says why; once it is there, all of it works, and so it goes on."""
    async with Proxy.serve(postgresql_list) as proxy:
        proxy.refuse()
        section = {"suppression": {"database_url": proxy.url(postgresql_list)}}
        async with serving_console(settings_without_rabbitmq(tmp_path, **section)) as console:
            status, said = await check(console)
            assert (status, said["type"]) == (503, "urn:bridge:problem:list-unavailable")
            await console.sign_in(WRITER)
            assert DOWN in (await console.get("/dead-letters")).text
            page = await console.get("/list")
            assert page.status in {200, 503}  # it may load its rows afterwards
            assert DOWN in page.text
            for _ in range(2):
                proxy.accept()
                await until_answered(console)
                assert (await console.get("/list")).status == 200
                proxy.refuse()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while DOWN not in (await console.get("/dead-letters")).text:
                        pass
                assert (await check(console))[0] == 503


async def test_it_ends_where_waiting_does_not_help(tmp_path: Path) -> None:
    """A file that is no list: the role says so, and does not wait for it to become one."""
    (tmp_path / "list.sqlite3").write_text("no database of anybody's\n" * 100)
    with pytest.raises(StoreError, match=r"list\.sqlite3"):
        async with serving_console(settings_without_rabbitmq(tmp_path)):
            pass
