"""The frame of the console in a real Chromium: sign-in, menu, keyboard, narrow and dark, how much it loads, its database away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from tests.support.browser import axe_script, running_browser, window
from tests.support.console import READER, serving_console, settings_without_rabbitmq, token_of
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.support.browser import Window

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST_LOAD_BYTES: Final = 150_000
"""What sign-in and the overview may transfer together, to a browser that has nothing of them yet."""
DOWN: Final = "The database of the suppression list does not answer"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Of a console that has a list, and no RabbitMQ."""
    async with serving_console(settings_without_rabbitmq(tmp_path_factory.mktemp("console"))) as client:
        yield client.base


@pytest_asyncio.fixture(loop_scope="module")
async def shown(browser: Browser, base: str) -> AsyncIterator[Window]:
    async with window(browser, base) as opened:
        yield opened


async def test_a_person_signs_in_and_finds_every_page_by_keyboard(shown: Window, npm_packages: Path) -> None:
    """Nothing but keys, from the address to the last page of the menu and out again; sign-in and an error are accessible."""
    page, axe = shown.page, axe_script(npm_packages)
    await shown.open("/list?reason=complaint")
    assert page.url.endswith("/sign-in?next=/list?reason%3Dcomplaint")
    await shown.check(axe)
    await page.keyboard.type("not-a-valid-token")  # the field has the focus
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").filter(has_text="not valid").wait_for()
    shown.expect_error("401")
    await shown.check(axe)
    await page.keyboard.type(token_of(READER))
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/list?reason=complaint")
    menu = page.get_by_role("navigation", name="Pages")
    for title in await menu.get_by_role("link").all_text_contents():
        await menu.get_by_role("link", name=title, exact=True).focus()
        await page.keyboard.press("Enter")
        await page.locator(f"nav a[aria-current=page]:has-text('{title}')").wait_for()
        await page.get_by_role("heading", level=1).wait_for()
    await page.get_by_role("button", name="Sign out").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Token of the API").wait_for()
    await shown.open("/")
    assert "/sign-in" in page.url
    shown.errors = [one for one in shown.errors if "503" not in one]  # there is no RabbitMQ to ask


async def test_the_content_is_the_first_stop_of_the_keyboard(shown: Window) -> None:
    """Nobody goes through the menu on each page: the first key leads to a link that skips it, and the focus is seen."""
    await shown.sign_in(READER)
    await shown.open("/no-such-page")
    page = shown.page
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert (
        await skip.evaluate("one => one === document.activeElement && getComputedStyle(one).outlineStyle")
        == "solid"
    )
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "To the overview"
    shown.expect_error("404")


async def test_the_first_load_is_small(shown: Window) -> None:
    """Headers and compressed bodies of sign-in and the overview, with all that they load; later the browser has most of it."""
    transferred: list[int] = []
    network = await shown.page.context.new_cdp_session(shown.page)
    network.on("Network.loadingFinished", lambda event: transferred.append(event["encodedDataLength"]))
    await network.send("Network.enable")
    await shown.sign_in(READER)
    await shown.page.wait_for_load_state("load")
    first = sum(transferred)
    assert 0 < first < FIRST_LOAD_BYTES
    transferred.clear()
    await shown.open("/")
    await shown.page.wait_for_load_state("load")
    assert sum(transferred) < first / 2


async def test_a_link_on_another_site_leads_to_the_page_and_not_to_sign_in(shown: Window) -> None:
    """The browser keeps the cookie back there; our own script finds out that somebody has signed in."""
    await shown.sign_in(READER)
    elsewhere = shown.base.replace("127.0.0.1", "localhost") + "/sign-in"
    await shown.page.goto(elsewhere)
    await shown.page.evaluate(
        "to => { const link = document.createElement('a'); link.href = to; document.body.append(link); link.click() }",
        f"{shown.base}/list?reason=manual",
    )
    await shown.page.wait_for_url(f"{shown.base}/list?reason=manual")
    await shown.page.get_by_role("button", name="Sign out").wait_for()


async def test_an_open_page_says_that_the_database_is_away_and_that_it_is_back(
    browser: Browser, postgresql_list: str, tmp_path: Path, npm_packages: Path
) -> None:
    """Without being loaded again; and it stays accessible."""
    async with Proxy.serve(postgresql_list) as proxy:
        section = {"suppression": {"database_url": proxy.url(postgresql_list)}}
        async with (
            serving_console(settings_without_rabbitmq(tmp_path, **section)) as console,
            window(browser, console.base) as shown,
        ):
            await shown.sign_in(READER)
            await shown.open("/no-such-page")
            shown.expect_error("404")
            strip = shown.page.locator("#dependencies")
            assert await strip.get_by_text(DOWN).count() == 0
            proxy.refuse()
            await strip.get_by_text(DOWN).wait_for()
            await shown.check(axe_script(npm_packages))
            proxy.accept()
            await strip.get_by_text(DOWN).wait_for(state="detached")
