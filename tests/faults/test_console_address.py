"""The console's page of an address in a real Chromium: support finds the answer, and every action, on both databases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import OVERRIDER, READER, serving_console, settings_of_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from bridge.settings.sections import Settings
    from tests.support.browser import Window

PRIVACY_KEY = "k1:" + "5" * 64
EVENT = (
    b'{"message":{"id":123456},"event":{"name":"complained","data":{"by":"</pre><script>alert(1)</script>"}}}'
)
JANE = "/address/jane@example.org"

in_a_file = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""On a test of what does not depend on the database: test_console_address.py of the integration tests has both."""


@pytest.fixture
def settings(database_url: str) -> Settings:
    return settings_of_list(database_url, privacy_keys=[PRIVACY_KEY])


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """The same list, seen from outside of the role: Jane has complained, and Janet has bounced."""
    url = settings.suppression.database_url.get_secret_value()
    async with Store.open(url, keys=keys_of(settings.suppression)) as opened:
        events = [
            SuppressingEvent("jane@example.org", Reason.COMPLAINT, "e1", 1_700_000_000, "123456", EVENT),
            SuppressingEvent("janet@example.org", Reason.HARD_BOUNCE, "e2", 1_700_000_000, "7", EVENT),
        ]
        await opened.record(events, actor="worker")
        yield opened


@pytest.fixture
async def shown(settings: Settings, store: Store) -> AsyncIterator[Window]:
    assert await store.count() == 2
    async with (
        serving_console(settings) as client,
        running_browser() as browser,
        window(browser, client.base) as opened,
    ):
        yield opened


async def said(page: Page, *texts: str) -> None:
    """Wait until the main part of the page has each of these."""
    for text in texts:
        await page.get_by_role("main").filter(has_text=re.compile(text)).wait_for()


async def test_support_answers_why_an_address_is_blocked(
    shown: Window, npm_packages: Path, store: Store
) -> None:
    """With keys alone, from the menu to the answer, the provider's event and the lifting; each page is accessible."""
    page, axe = shown.page, axe_script(npm_packages)
    await shown.sign_in(path="/address")
    await shown.check(axe, schemes=False)
    await page.keyboard.type("JAN")  # the field has the focus
    links = page.locator("#found").get_by_role("link")
    await links.nth(1).wait_for()
    assert await links.all_text_contents() == ["jane@example.org", "janet@example.org"]
    await shown.check(axe)
    await links.first.focus()
    await page.keyboard.press("Enter")
    await said(page, "May we write to it\\? No", "The recipient complained.*14 Nov 2023.*message 123456")
    await page.locator(".timeline summary").first.focus()
    await page.keyboard.press("Space")
    await page.get_by_text('"by": "</pre><script>alert(1)</script>"').wait_for()
    await shown.check(axe)
    await page.locator("summary", has_text="Lift: write").focus()
    await page.keyboard.press("Enter")
    for key in ("Tab", "Tab"):
        await page.keyboard.press(key)
    await page.keyboard.type("ticket 4711")
    await page.keyboard.press("Enter")
    await said(page, "the recipient has complained")
    shown.expect_error("409")
    await shown.check(axe)
    await page.get_by_label("Lift the complaint, too").focus()
    await page.keyboard.press("Space")
    await page.get_by_label("Note").and_(page.locator("#lift-note")).focus()
    await page.keyboard.press("Enter")
    await said(page, "Lifted: complaint.", "Yes", "console:overrider has lifted it: “ticket 4711”")
    assert (await store.check_many(["jane@example.org"]))[0].allowed


async def test_every_action_is_made_with_a_note(shown: Window, npm_packages: Path, store: Store) -> None:
    """Add, allow, stop allowing, erase: each is said on the page and stands in the log; a second click adds nothing."""
    page, axe = shown.page, axe_script(npm_packages)

    async def fill(action: str, button: str, **fields: str) -> None:
        await page.locator("summary", has_text=re.compile(f"^{action}")).click()
        form = page.locator("details[open] form").filter(has=page.get_by_role("button", name=button))
        for label, text in fields.items():
            await form.locator(f"[name={label}]").fill(text)
        await form.get_by_role("button", name=button).dblclick()

    await shown.sign_in(path="/address/bob@example.org")
    await said(page, "Nothing has put it on the list")
    await fill("Add", "Add", note="by phone", until="2099-12-31")
    await said(
        page, "It is on the list now", "by console:overrider: “by phone”", "ends by itself on 1 Jan 2100"
    )
    assert (await store.entries_of("bob@example.org"))[0].count == 1
    await shown.open("/address/janet@example.org")
    await page.locator("summary", has_text="Allow").click()
    await page.get_by_label("all of example.org").check()
    await shown.check(axe)
    await page.locator("summary", has_text="Allow").click()
    await fill("Allow", "Allow", note="a partner")
    await said(
        page, "Allowed: all of example.org", "The allow-list wins: console:overrider has allowed all of"
    )
    await fill("Stop allowing", "Stop allowing", note="no partner any more")
    await said(page, "The rule for example.org is gone", "May we write to it\\? No")
    await fill("Erase", "Erase for good", note="she asked", confirm="janet@example.com")
    await said(page, "the address in the field is another one")
    shown.expect_error("422")
    await page.locator("#erase-confirm").fill("janet@example.org")
    await page.get_by_role("button", name="Erase for good").click()
    await said(page, "Erased: 1 entries", "The person was erased on")
    assert "janet" not in await page.content()
    await shown.check(axe)
    actors = {(change.action, change.actor) for change in await store.feed(0, 100)}
    assert actors >= {
        (action, f"console:{OVERRIDER}") for action in ("added", "allowed", "disallowed", "erased")
    }


@in_a_file
async def test_who_only_reads_sees_no_forms(shown: Window) -> None:
    """The answer is there for everybody; what one may not do is not offered."""
    page = shown.page
    await shown.sign_in(READER, JANE)
    await said(page, "May we write to it\\? No")
    assert await page.locator("main form").count() == 0
    assert await page.get_by_role("heading", name="What you can do").count() == 0


@in_a_file
async def test_older_changes_are_added_below(shown: Window, store: Store) -> None:
    """With a key; the focus goes on to the first of them."""
    for number in range(30):
        await store.add("bob@example.org", actor="x", note=f"number {number}.")
    page = shown.page
    await shown.sign_in(READER, "/address/bob@example.org")
    assert await page.locator(".timeline > li:not(.more)").count() == 25
    await page.get_by_role("link", name="Older changes").press("Enter")
    await page.get_by_text("number 0.").wait_for()
    assert "number 4." in await page.locator("li:has(h3:focus)").inner_text()
    await page.wait_for_function("document.querySelectorAll('.timeline > li').length === 30")


@in_a_file
async def test_the_second_of_two_people_is_told(shown: Window, store: Store) -> None:
    """What both have seen was lifted by the first one: the second one changes nothing, and reads who did it and why."""
    page = shown.page
    await shown.sign_in(path="/address/janet@example.org")
    await page.locator("summary", has_text="Lift: write").click()
    await store.remove("janet@example.org", reason=None, actor="console:ann", note="I was faster")
    await page.locator("#lift-note").fill("ticket 4711")
    await page.get_by_role("button", name="Lift", exact=True).click()
    await said(page, "It is not on the list.*any more: console:ann has taken it off.*I was faster")
    shown.expect_error("409")
