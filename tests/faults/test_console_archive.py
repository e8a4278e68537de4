"""The archive in a real Chromium: how many came yesterday, one event, a replay that is stopped and goes on; by keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from bridge.broker import archive as archive_of_broker
from bridge.settings.loading import load_settings
from tests.support.archiving import archive, many, today
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import OVERRIDER, PATIENT, READER, TOKENS, serving_console
from tests.support.working import body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.browser import Window
    from tests.support.rabbit import Rabbit

HOSTILE = b'{"message": "<script>alert(1)</script>"}'
DAY = 86_400_000


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    return overrides | {
        "api": {"port": 0, "tokens": TOKENS},
        "console": {"directory": f"{tmp_path}/files"},
        "rabbitmq": overrides["rabbitmq"] | PATIENT,
    }


@pytest.fixture
async def shown(
    overrides: dict[str, dict[str, Any]], rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Window]:
    del rabbit  # it must outlive the console
    monkeypatch.setattr(archive_of_broker, "_LAST_CHUNK_SECONDS", 1.0)
    async with (
        serving_console(load_settings(overrides=overrides)) as client,
        running_browser() as browser,
        window(browser, client.base) as opened,
    ):
        yield opened


async def press(shown: Window, role: Any, name: str | re.Pattern[str]) -> None:
    """With the keyboard alone: the focus, and Enter."""
    await shown.page.get_by_role(role, name=name).first.focus()
    await shown.page.keyboard.press("Enter")


async def test_events_are_counted_found_and_replayed_by_keyboard(
    shown: Window, rabbit: Rabbit, settings: Settings, npm_packages: Path
) -> None:
    """Each page holds what every page must. A replay that was stopped goes on from its page."""
    page, axe = shown.page, axe_script(npm_packages)
    now = await today()
    yesterday = now // DAY * DAY - DAY // 2
    bodies = [*many("opened", 60, yesterday), (body_of("clicked", 1), yesterday), (HOSTILE, now)]
    await archive(rabbit, settings, bodies)
    queue = f"{rabbit.names.prefix}replayed"
    async with rabbit.channel() as channel:
        await channel.declare_queue(queue, durable=True)
    await shown.sign_in(OVERRIDER, "/archive")
    await shown.check(axe)

    await press(shown, "link", "Yesterday")
    await page.get_by_role("status").filter(has_text="61 events").wait_for()
    await page.get_by_role("row", name="opened 60").wait_for()
    await shown.check(axe)

    await page.get_by_label("Message").first.focus()
    await page.keyboard.type("1")
    await page.keyboard.press("Enter")
    await page.get_by_role("status").filter(has_text="2 events").wait_for()

    await press(shown, "link", "Last hour")
    await page.get_by_role("status").filter(has_text="1 event").wait_for()
    await press(shown, "link", "61")
    await page.get_by_text("<script>alert(1)</script>").first.wait_for()
    await shown.check(axe)

    await shown.open("/archive?search=yes&name=opened")
    await page.get_by_role("status").filter(has_text="60 events").wait_for()
    for label, text in (("Queue", queue), ("So many events a second", "2"), ("Note", "they lost them")):
        await page.get_by_label(label).last.focus()
        await page.keyboard.press("Control+A")
        await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    running = page.get_by_text(re.compile(r"Running: [1-9]\d* of"))
    await running.wait_for()
    await shown.check(axe)
    await page.get_by_role("button", name="Stop").focus()
    before = await running.inner_text()
    await running.filter(has_not_text=before).wait_for()
    await page.keyboard.press("Enter")  # the focus stays, while the page is renewed each second
    await page.get_by_text(re.compile("It came to offset .* Go on from there")).wait_for()
    await shown.check(axe)
    await press(shown, "link", "Go on from there")
    await page.get_by_label("Note").last.fill("the rest")
    await page.get_by_label("So many events a second").fill("1000")
    await press(shown, "button", "Replay")
    await page.get_by_text("Finished").wait_for()
    async with rabbit.reading(queue) as reading:
        arrived: set[bytes] = set()
        while len(arrived) < 60:
            arrived.add((await reading.next()).body)
    async with rabbit.channel() as channel:
        await channel.queue_delete(queue)


async def test_who_may_only_read_counts_and_replays_nothing(
    shown: Window, rabbit: Rabbit, settings: Settings
) -> None:
    """And is told what is missing."""
    await archive(rabbit, settings, many("opened", 3, 1_750_000_000_000))
    await shown.sign_in(READER, "/archive")
    await press(shown, "button", "Search")
    await shown.page.get_by_role("status").filter(has_text="3 events").wait_for()
    await shown.page.get_by_text("This token may only read").wait_for()
    assert await shown.page.get_by_role("button", name="Replay").count() == 0
