"""The overview and the subscribers' page in a real Chromium, beside a receiver and a worker, while RabbitMQ is killed."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import aiohttp
import pytest
from playwright.async_api import expect

from bridge.console import checkup, monitor
from bridge.development.private_node import running_node
from bridge.diagnostics.finding import ok
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import receiver
from bridge.settings.loading import load_settings
from bridge.tasks import background_task, wait_while_running
from tests.support.browser import axe_script, running_browser, window
from tests.support.console import TOKENS, serving_console
from tests.support.ports import free_ports
from tests.support.working import body_of, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from bridge.development.private_node import PrivateNode
    from bridge.diagnostics.finding import Finding
    from tests.support.browser import Window

BACK_MILLISECONDS = 60_000
"""For a node that was killed to be there again, with its queues, and seen."""


class Stack:
    """A node of our own, a receiver and a worker on it, and the console in a browser."""

    def __init__(self, node: PrivateNode, webhook: str, window: Window, queue: str) -> None:
        self.node = node
        self.webhook = webhook
        self.window = window
        self.queue = queue
        """Of the subscriber."""

    async def post(self, *names: str) -> None:
        """One event of each name, to the receiver."""
        async with aiohttp.ClientSession() as session:
            for number, name in enumerate(names, 1):
                async with session.post(self.webhook, data=body_of(name, number)) as answer:
                    assert answer.status == 200


@asynccontextmanager
async def stack_on(node: PrivateNode, overrides: dict[str, dict[str, Any]]) -> AsyncIterator[Stack]:
    ports = free_ports(2)
    own: dict[str, Any] = changed(
        overrides,
        rabbitmq={"urls": [node.url], "management_url": node.management_url},
        receiver={"confirm_wait": 0.5},
        api={"port": 0, "tokens": TOKENS},
    )
    subscribers: dict[str, Any] = {"subscribers": [{"queue": "crm", "events": ["opened"]}]}
    taking, handling = (
        load_settings(overrides=changed(own, health={"port": port}) | subscribers) for port in ports
    )
    roles = [f"http://127.0.0.1:{port}" for port in ports]
    looking = load_settings(overrides=changed(own, health={"roles": roles}) | subscribers)
    lifetime = Lifetime()
    async with (
        background_task(receiver(taking, lifetime), name="receiver") as receiving,
        working(handling),
    ):
        await wait_while_running(lifetime.started, receiving)
        await wait_while_running(lifetime.connected, receiving)
        webhook = f"http://127.0.0.1:{lifetime.port}/webhooks/msndr/{own['receiver']['tokens'][0]}"
        async with (
            serving_console(looking) as client,
            running_browser() as browser,
            window(browser, client.base) as opened,
        ):
            yield Stack(node, webhook, opened, f"{looking.rabbitmq.prefix}crm")
        lifetime.stop.set()
        await receiving


@pytest.fixture
async def stack(
    overrides: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """It looks often; what `doctor` finds on whatever machine this is has tests of its own."""

    async def nothing_found(_: object) -> list[Finding]:
        return [ok("clock", "the clocks agree")]

    monkeypatch.setattr(monitor, "EVERY_SECONDS", 0.5)
    monkeypatch.setattr(checkup, "run_checks", nothing_found)
    async with (
        running_node(tmp_path / "node", management=True, quick_counts=True) as node,
        stack_on(node, overrides) as running,
    ):
        yield running


async def test_whoever_is_on_call_sees_what_is_wrong_and_when_it_is_over(
    stack: Stack, npm_packages: Path
) -> None:
    """All by itself, by keyboard alone, in light and dark and on a narrow screen; then the subscribers' page."""
    page, axe = stack.window.page, axe_script(npm_packages)
    await stack.window.sign_in()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("All is well.", timeout=30_000)
    await _unfold(page, "#checked")
    await expect(page.locator("#checked")).to_contain_text(re.compile(r"receiver http://\S+ is ready"))
    await expect(page.locator("#checked")).to_contain_text("clock: the clocks agree")
    await stack.post("opened", "opened", "clicked")
    await expect(page.get_by_role("row", name=re.compile("^opened "))).to_contain_text("2")
    await expect(page.locator(".chart[data-series=events] canvas")).to_be_visible()
    assert "opened" in (await page.locator(".chart[data-series=events]").get_attribute("aria-label") or "")
    await stack.window.check(axe)
    await page.get_by_role("button", name="Check everything again").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#check")).to_be_enabled()

    await stack.node.kill()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("wrong.", timeout=30_000)
    card = page.get_by_role("listitem").filter(has_text="RabbitMQ cannot be reached")
    await expect(card).to_contain_text(re.compile(r"Since \d+ \w+ \d{4}, \d\d:\d\d:\d\d UTC \(\d"))
    await expect(card).to_contain_text("keep events in their spools")
    await expect(page.locator("#checked")).to_have_attribute("open", "")
    await stack.post("unsubscribed")
    await expect(page.get_by_text("1 event waits")).to_be_visible()
    await stack.window.check(axe)
    await stack.window.open("/subscribers")
    await expect(page.locator("#dependencies")).to_contain_text("RabbitMQ does not answer")
    await expect(page.locator("#subscribers")).to_contain_text("is not known now")

    await stack.node.start()
    await expect(page.locator("#subscribers")).to_contain_text("nobody consumes", timeout=BACK_MILLISECONDS)
    await expect(page.locator("#dependencies")).to_be_empty(timeout=BACK_MILLISECONDS)
    await _consume_all(stack)
    await expect(page.locator("#subscribers")).to_contain_text("ago)", timeout=BACK_MILLISECONDS)
    await stack.window.check(axe)
    await stack.window.open("/")
    await expect(page.get_by_role("heading", level=1)).to_contain_text(
        "All is well.", timeout=BACK_MILLISECONDS
    )
    await _unfold(page, "#over")
    await expect(page.locator("#over")).to_contain_text("RabbitMQ cannot be reached")


async def _unfold(page: Page, part: str) -> None:
    """With the keyboard. The console may replace the part, and with it what has the focus, just before the key comes."""
    async with asyncio.timeout(90):
        while await page.locator(part).get_attribute("open") is None:
            await page.locator(f"{part} summary").press("Enter")


async def _consume_all(stack: Stack) -> None:
    """As that service would."""
    async with await aio_pika.connect(stack.node.url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(stack.queue, ensure=False)
        for _ in range(2):
            message = await queue.get(timeout=90)
            await message.ack()


async def test_a_page_that_hears_nothing_says_that_it_is_old(
    overrides: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser's clock goes on by half a minute without a word from the console; the next word ends it."""
    monkeypatch.setattr(monitor, "EVERY_SECONDS", 3.0)
    own = changed(
        overrides,
        api={"port": 0, "tokens": TOKENS},
        rabbitmq={"urls": ["amqp://127.0.0.1:9"]},
        health={"roles": ["http://127.0.0.1:9"]},
    )
    async with (
        serving_console(load_settings(overrides=own)) as client,
        running_browser() as browser,
        window(browser, client.base) as shown,
    ):
        await shown.page.clock.install()
        await shown.sign_in()
        await expect(shown.page.locator("#seen")).to_contain_text("ago")
        old = shown.page.get_by_role("alert").filter(has_text="heard nothing from the console")
        await expect(old).to_be_hidden()
        async with asyncio.timeout(90):
            while not await old.is_visible():  # the console may say its next word in the same moment
                await shown.page.clock.fast_forward(31_000)
        await expect(old).to_be_hidden(timeout=10_000)
