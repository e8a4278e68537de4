"""The console's page of the list in a real Chromium: filters, pages, export; and its database dies meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bridge.console import list_page
from bridge.suppression import browsing
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.programs.bench import lists
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import OVERRIDER, READER, console_client, serving_console, settings_of_list
from tests.support.postgres import Databases, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.browser import Window
    from tests.support.console import ConsoleClient

ENTRIES = 450


@pytest.fixture
async def console(database_url: str) -> AsyncIterator[ConsoleClient]:
    async with serving_console(settings_of_list(database_url)) as client:
        yield client


@pytest.fixture
async def shown(console: ConsoleClient) -> AsyncIterator[Window]:
    async with running_browser() as browser, window(browser, console.base) as opened:
        yield opened


async def test_a_person_looks_through_the_list(
    shown: Window, database_url: str, npm_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters, pages and export by keyboard; where little fits the page fills by itself; each state is accessible."""
    monkeypatch.setattr(list_page, "_COUNT_SECONDS", 60.0)  # who stands still meanwhile counts all the same
    await lists.fill(database_url, ENTRIES)
    async with Store.open(database_url) as store:
        await store.add("zoe@example.org", reason=Reason.COMPLAINT, actor="x", note="")
    page, axe = shown.page, axe_script(npm_packages)
    await shown.sign_in(READER, "/list")
    await page.get_by_text(f"{ENTRIES + 1} entries on the list.").wait_for()
    await shown.check(axe)
    rows = page.locator("tbody").get_by_role("rowheader")
    assert await rows.count() == 50
    await page.get_by_role("link", name="Next page").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="To the first page").wait_for()
    assert await rows.first.text_content() == lists.address(100)
    monkeypatch.setattr(browsing, "STEP", 60)
    monkeypatch.setattr(list_page, "_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(list_page, "_FURTHER_SECONDS", 0.0)
    await page.get_by_label("Reason").select_option("complaint")
    await page.get_by_role("button", name="Filter").press("Enter")
    await rows.filter(
        has_text="zoe@example.org"
    ).wait_for()  # behind eight steps, each of which the page has asked for
    await page.get_by_text("1 entry fit").wait_for()
    assert await rows.count() == 1
    await shown.check(axe)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").press("Enter")
    text = await asyncio.to_thread(Path(await (await download.value).path()).read_text)
    assert [line.split(",")[0] for line in text.splitlines()] == ["address", "zoe@example.org"]
    await page.get_by_label("Domain").fill("no domain")
    await page.keyboard.press("Enter")
    await page.get_by_text("not a domain").wait_for()
    shown.expect_error("422")
    await shown.check(axe)
    await page.get_by_role("link", name="Without filters").click()
    await rows.first.get_by_role("link").click()
    await page.get_by_text("May we write to it?").wait_for()


async def test_a_long_export_holds_nobody_up(
    console: ConsoleClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody takes his time to receive the whole list, others see their pages; and he gets all of it."""
    entries = 30_000
    monkeypatch.setattr(list_page, "_ROWS", 5)
    await lists.fill(database_url, entries)
    async with console_client(console.base) as slow, console_client(console.base) as other:
        await slow.sign_in(READER)
        await other.sign_in(OVERRIDER)
        async with slow.session.get(f"{slow.base}/list/export?format=ndjson") as export:
            await export.content.readline()
            for _ in range(3):
                assert (await other.get("/list")).status == 200
                assert (await other.fragment("/address/search", q="r")).status == 200
            lines = 1
            async for _ in export.content:
                lines += 1
    assert lines == entries


async def test_the_database_is_away_and_comes_back(npm_packages: Path) -> None:
    """Before the list was ever open, and while somebody looks: each page says so, and works again by itself after it."""
    async with Server.running() as server:
        url = await Databases(server.url()).fresh()
        async with Store.open(url) as store:
            await store.add("jane@example.org", actor="x", note="")
        await server.stop()
        async with (
            serving_console(settings_of_list(url)) as client,
            running_browser() as browser,
            window(browser, client.base) as shown,
        ):
            page, axe = shown.page, axe_script(npm_packages)
            await shown.sign_in(path="/list")
            away = page.get_by_role("heading", name="The database of the suppression list does not answer")
            await away.wait_for()
            shown.expect_error("503")
            await shown.check(axe)
            await server.start()
            await _reload_until(shown, "Ordered by address.")
            await shown.open("/address")
            await server.stop()
            await page.keyboard.type("jane")
            await page.locator("#found").get_by_role("alert").wait_for()
            shown.expect_error("503")
            await shown.open("/address/jane@example.org")
            await away.wait_for()
            shown.expect_error("503")
            await server.start()
            await _reload_until(shown, "May we write to it?")
            shown.errors.clear()


async def _reload_until(shown: Window, text: str) -> None:
    """As a person does who waits."""
    async with asyncio.timeout(90):
        while not await shown.page.get_by_text(text).count():
            await shown.page.reload()
    shown.errors = [one for one in shown.errors if "503" not in one]
