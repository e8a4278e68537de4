"""The frame of the console in a real Chromium: sign-in, menu, keyboard, narrow and dark, and its database away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.settings.loading import load_settings
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import READER, TOKENS, serving_console, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Window


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Nobody is where RabbitMQ should be."""
    return {
        "api": {"port": 0, "tokens": TOKENS},
        "rabbitmq": {"urls": ["amqp://nobody:nothing@127.0.0.1:9/"]},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"},
        "health": {"port": 0},
    }


@pytest.fixture
async def shown(overrides: dict[str, dict[str, Any]]) -> AsyncIterator[Window]:
    async with (
        serving_console(load_settings(overrides=overrides)) as client,
        running_browser() as browser,
        window(browser, client.base) as opened,
    ):
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
    titles = await page.get_by_role("navigation").get_by_role("link").all_text_contents()
    for title in titles:
        link = page.get_by_role("navigation").get_by_role("link", name=title, exact=True)
        await link.focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", level=1).wait_for()
        await page.locator(f"nav a[aria-current=page]:has-text('{title}')").wait_for()
    await page.get_by_role("button", name="Sign out").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Token of the API").wait_for()
    await shown.open("/")
    assert "/sign-in" in page.url
