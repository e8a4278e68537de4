"""Dead letters in a real Chromium: every action by keyboard, light, dark and narrow; and RabbitMQ killed in the middle."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from bridge.broker import archive as archive_of_broker
from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.console import jobs
from bridge.development.private_node import running_node
from bridge.settings.loading import load_settings
from tests.support.archiving import archive, many
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import OVERRIDER, PATIENT, READER, TOKENS, serving_console
from tests.support.dead_letters import ids, move_to_dead_letters
from tests.support.rabbit import Rabbit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from tests.support.browser import Window
    from tests.support.working import Workplace

HOSTILE = "<script>alert(1)</script>"
AT = 1_750_000_000_000


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    return overrides | {
        "api": {"port": 0, "tokens": TOKENS},
        "console": {"directory": f"{tmp_path}/files"},
        "rabbitmq": overrides["rabbitmq"] | PATIENT,
    }


@pytest.fixture
async def shown(overrides: dict[str, dict[str, Any]], workplace: Workplace) -> AsyncIterator[Window]:
    del workplace  # the queues must stand
    async with (
        serving_console(load_settings(overrides=overrides)) as client,
        running_browser() as browser,
        window(browser, client.base) as opened,
    ):
        yield opened


async def press(page: Page, role: Any, name: str | re.Pattern[str]) -> None:
    """With the keyboard alone: the focus, and Enter."""
    await page.get_by_role(role, name=name, exact=True).first.focus()
    await page.keyboard.press("Enter")


async def write(page: Page, label: str, text: str) -> None:
    """Into a field, with the keyboard."""
    await page.get_by_label(label).first.focus()
    await page.keyboard.press("Control+A")
    await page.keyboard.type(text)


async def test_letters_are_found_replayed_discarded_and_put_back_by_keyboard(
    shown: Window, rabbit: Rabbit, workplace: Workplace, npm_packages: Path
) -> None:
    """Each page holds what every page must; nothing that others have written becomes markup."""
    page, axe = shown.page, axe_script(npm_packages)
    await shown.sign_in(OVERRIDER, "/dead-letters")
    await page.get_by_text("There are no dead letters.").wait_for()
    await shown.check(axe)

    await move_to_dead_letters(rabbit, range(3))
    await move_to_dead_letters(rabbit, range(10, 15), reason="malformed", note=HOSTILE)
    async with rabbit.channel() as channel:
        strange = aio_pika.Message(b"\xff\xfe" + HOSTILE.encode(), message_id=f"a/b {HOSTILE}", type=HOSTILE)
        await channel.default_exchange.publish(strange, rabbit.names.dead)
    await _reload_until(page, "9 dead letters in 3 groups.")
    await shown.check(axe)

    await press(page, "link", "unknown")
    await press(page, "link", f"a/b {HOSTILE}")
    await page.get_by_text("000000  ff fe 3c 73 63").wait_for()
    await shown.check(axe)

    await shown.open("/dead-letters")
    await press(page, "link", "unknown-message")
    await page.get_by_text("Check that provider.api_token belongs").wait_for()
    await shown.check(axe)
    await write(page, "Note", "the token was of another account")
    await page.keyboard.press("Enter")  # the first button of the form is the replay
    await page.get_by_text(f"3 dead letters went back into the queue {rabbit.names.suppression}.").wait_for()
    assert await rabbit.depth(rabbit.names.suppression) == 3
    await shown.check(axe)

    await press(page, "link", re.compile("^Back"))
    await _discard_two(shown, axe)

    await press(page, "link", re.compile("^Back"))
    await page.get_by_text("Discarded letters that can be put back").wait_for()
    await shown.check(axe)
    await write(page, "Note for dead-letters", "they are needed")
    await press(page, "button", "Put back")
    await page.get_by_text("2 dead letters came back.").wait_for()
    left = sorted(str(message.message_id) for message in await workplace.dead())
    assert left == sorted([*ids(range(10, 15)), f"a/b {HOSTILE}"])


async def _discard_two(shown: Window, axe: str) -> None:
    """Two of a group: a tick chooses the ticked ones; and the file that has them."""
    page = shown.page
    await press(page, "link", "malformed")
    for number in (11, 13):
        await page.get_by_label(f"Tick letter-{number}").focus()
        await page.keyboard.press("Space")
    assert await page.get_by_label("Only those that are ticked").is_checked()
    await write(page, "Note", "nobody can read them")
    await press(page, "button", "Discard …")
    await page.get_by_role("heading", name="Discard 2 dead letters?").wait_for()
    await shown.check(axe)
    await press(page, "button", "Discard 2 dead letters")
    await page.get_by_text("2 dead letters were removed").wait_for()
    async with page.expect_download() as downloading:
        await press(page, "link", re.compile("^Download"))
    saved = await (await downloading.value).path()
    assert saved.read_text().count("\n") == 2


async def _reload_until(page: Page, text: str) -> None:
    """A listing is shown to others for some seconds."""
    async with asyncio.timeout(90):
        while not await page.get_by_text(text).count():
            await page.reload()
            await page.locator("#groups").wait_for()


async def test_who_may_only_read_sees_letters_and_no_form(
    shown: Window, rabbit: Rabbit, npm_packages: Path
) -> None:
    """And is told what is missing."""
    await move_to_dead_letters(rabbit, range(2))
    await shown.sign_in(READER, "/dead-letters")
    await press(shown.page, "link", "unknown-message")
    await shown.page.get_by_text("This token may only read").wait_for()
    assert await shown.page.get_by_role("button").count() == 1, "sign out"
    await shown.check(axe_script(npm_packages))


async def test_rabbitmq_is_killed_in_the_middle_of_two_replays(
    overrides: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    npm_packages: Path,
) -> None:
    """The pages say so. The archive's replay goes on by itself; the other says where it stopped, and is started once more."""
    monkeypatch.setattr(archive_of_broker, "_LAST_CHUNK_SECONDS", 0.5)
    monkeypatch.setattr(jobs, "QUIET_SECONDS", 1.0)
    async with running_node(tmp_path / "node") as node:
        there = load_settings(
            overrides=overrides | {"rabbitmq": {"urls": [node.url], "reconnect_max": 0.5} | PATIENT}
        )
        async with await aio_pika.connect(node.url) as connection:
            rabbit = Rabbit(connection, "")
            await declaring.declare(connection, planned_topology(there))
            await move_to_dead_letters(rabbit, range(30))
            await archive(rabbit, there, many("opened", 100, AT))
            async with rabbit.channel() as channel:
                await channel.declare_queue("crm", durable=True, arguments={"x-queue-type": "quorum"})
        async with (
            serving_console(there) as client,
            running_browser() as browser,
            window(browser, client.base) as letters,
            window(browser, client.base) as events,
        ):
            await letters.sign_in(OVERRIDER, "/dead-letters")
            await letters.page.get_by_role("link", name="unknown-message").click()
            await letters.page.get_by_label("Note").fill("the token was of another account")
            await letters.page.get_by_label("Replay so many").fill("1")
            await events.sign_in(OVERRIDER, "/archive")
            await events.page.get_by_label("Queue", exact=True).fill("crm")
            await events.page.get_by_label("So many events a second").fill("10")
            await events.page.get_by_label("Note").fill("crm has lost them")
            for one in (letters, events):  # slow enough that both still run when RabbitMQ is killed
                await one.page.get_by_role("button", name="Replay").click()
            for one in (letters, events):
                await one.page.get_by_text(re.compile(r"Running: [1-9]\d* of")).wait_for()
            await node.kill()
            for one in (letters, events):
                await (
                    one.page.get_by_text("RabbitMQ may be down or slow")
                    .or_(one.page.get_by_text("It did not come to its end"))
                    .wait_for()
                )
                await one.check(axe_script(npm_packages), schemes=False)
            await letters.open("/dead-letters")
            await letters.page.get_by_text(
                re.compile("is running|RabbitMQ cannot be reached")
            ).first.wait_for()
            letters.errors.clear()  # 503
            await node.start()
            await events.page.get_by_text("100 of 100 archived events are in the queue crm.").wait_for(
                timeout=60_000
            )
            await _replay_the_rest(letters)
        async with await aio_pika.connect(node.url) as connection:
            rabbit = Rabbit(connection, "")
            assert await rabbit.depth(rabbit.names.dead) == 0
            async with rabbit.reading(rabbit.names.suppression) as reading:
                arrived: set[str | None] = set()
                while arrived != set(ids(range(30))):
                    arrived.add((await reading.next()).message_id)
            async with rabbit.reading("crm") as reading:
                bodies: set[bytes] = set()
                while len(bodies) < 100:
                    bodies.add((await reading.next()).body)


async def _replay_the_rest(letters: Window) -> None:
    """When the job that was cut off has ended."""
    page = letters.page
    async with asyncio.timeout(90):
        while (
            not await page.get_by_role("link", name="unknown-message").count()
            or await page.get_by_text("is running:").count()
        ):
            await page.wait_for_timeout(300)
            await letters.open("/dead-letters")
    await page.get_by_role("link", name="Replay of 30 dead letters").click()
    await page.get_by_text("The others are still among the dead letters").wait_for()
    await page.get_by_role("link", name="Back").first.click()
    await page.get_by_role("link", name="unknown-message").click()
    await page.get_by_label("Note").fill("once more")
    await page.get_by_role("button", name="Replay").click()
    await page.get_by_text("Finished").wait_for()
    letters.errors.clear()  # 503 while RabbitMQ was starting
