"""`make screenshots`: the console's pages as docs/images, taken in Chromium of a bridge that has worked for a minute."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import aio_pika
import aiohttp

from bridge.development.dev_settings import API_TOKEN
from bridge.development.dev_stack import MESSAGES, stack
from bridge.development.emission import event_body, post
from bridge.development.load_driver import LoadDriver, LoadPace
from bridge.development.traffic import Traffic, TrafficProfile, parse_mix
from bridge.settings.sections import Logs
from bridge.tasks import background_task
from bridge.telemetry import logs
from tests.support.browser import NARROW, running_browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from bridge.development.dev_stack import Stack

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
_SETTINGS: Final = """
[provider]
unknown_grace = 1.0
[worker]
retry_delays = [0.1]
[suppression]
events = ["hard_bounced", "complained", "unsubscribed"]
[[subscribers]]
queue = "crm"
events = ["opened", "clicked"]
[[subscribers]]
queue = "warehouse"
events = ["#"]
changes = true
"""
_RATE: Final = 25.0
_WORKING_SECONDS: Final = 75.0
"""Of traffic before the first picture, so that the charts have something to show. It goes on behind."""
_SOMEBODY: Final = 31
"""A message whose recipient has a history."""
_HISTORY: Final = (("delivered", 40), ("hard_bounced", 20), ("complained", 2))
"""Events of it, and how many seconds ago each was."""
_FIRST: Final = 100
_KNOWN: Final = MESSAGES
"""The traffic is about the messages from the first of these to the last that the provider knows."""
_UNKNOWN: Final = (("hard_bounced", range(5001, 5013)), ("complained", range(6001, 6004)))
_WIDTH: Final = 1280
_HEIGHT: Final = 860


class Picture(NamedTuple):
    """One file in docs/images."""

    name: str
    path: str
    """Below /console."""
    scheme: Literal["light", "dark"] = "light"
    width: int = _WIDTH
    height: int = _HEIGHT


PICTURES: Final = (
    Picture("address", f"/address/recipient{_SOMEBODY}@example.org", height=1240),
    Picture("list", "/list", height=560),
    Picture("dead-letters", "/dead-letters", height=460),
    Picture("subscribers", "/subscribers", height=520),
    Picture("live", "/live", height=700),
    Picture("archive", "/archive?search=yes", height=900),
    Picture("overview", "/", height=1500),
    Picture("overview-dark", "/", scheme="dark"),
    Picture("overview-narrow", "/", width=NARROW, height=780),
)


def main() -> None:
    logs.configure(Logs(level="error"))
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(_run())


async def _run() -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-screenshots-") as folder:
        config = Path(folder, "settings.toml")
        config.write_text(_SETTINGS)  # noqa: ASYNC240 -- nothing else runs yet
        async with (
            stack(
                Path(folder, "dev"), rabbitmq_url=None, port=0, api_port=0, config=config, say=_say
            ) as running,
            running_browser() as browser,
            background_task(_traffic(running), name="traffic"),
            background_task(_consume(running), name="crm"),
        ):
            await _history(running)
            async with _signed_in(browser, running) as page:
                _say(f"traffic for {_WORKING_SECONDS:g} s")
                await asyncio.sleep(_WORKING_SECONDS)
                for picture in PICTURES:
                    await _take(page, running, picture)


async def _take(page: Page, running: Stack, picture: Picture) -> None:
    await page.set_viewport_size({"width": picture.width, "height": picture.height})
    await page.emulate_media(color_scheme=picture.scheme)
    await page.goto(f"{running.locations.api}/console{picture.path}")
    await page.get_by_role("heading", level=1).wait_for()
    # What a page loads by itself, and a look or two of what keeps itself up to date; a live page never falls silent.
    await asyncio.sleep(6)
    file = FOLDER / f"{picture.name}.png"
    await page.screenshot(path=file, animations="disabled")
    _say(f"docs/images/{file.name}: {file.stat().st_size:,} bytes")


@asynccontextmanager
async def _signed_in(browser: Browser, running: Stack) -> AsyncIterator[Page]:
    async with await browser.new_context(locale="en-GB", reduced_motion="reduce") as context:
        page = await context.new_page()
        await page.goto(f"{running.locations.api}/console/")
        await page.get_by_label("Token of the API").fill(API_TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Sign out").wait_for()
        yield page


async def _traffic(running: Stack) -> None:
    """A newsletter's, until cancelled, about messages that the provider knows."""
    for seed in count(1):
        traffic = Traffic(TrafficProfile(parse_mix(()), 0.01, 0.01, 0.002, _FIRST), seed=seed)
        pace = LoadPace(_RATE, count=_KNOWN - _FIRST)
        driver = LoadDriver(
            running.locations.webhook, traffic, pace, accepted=lambda *_: None, rejected=lambda *_: None
        )
        await driver.run()


async def _history(running: Stack) -> None:
    """Of one recipient; and bounces of messages that nobody knows, which become dead letters."""
    events = [(name, _SOMEBODY, ago) for name, ago in _HISTORY]
    events += [(name, number, 5) for name, numbers in _UNKNOWN for number in numbers]
    async with aiohttp.ClientSession() as session:
        for name, message, ago in events:
            await post(
                session, running.locations.webhook, event_body(name, message, int(time.time()) - ago, {})
            )
            if message == _SOMEBODY:
                await asyncio.sleep(1)  # one batch of the worker each, so that each is a change of its own


async def _consume(running: Stack) -> None:
    """The service `crm`, until cancelled; nobody consumes for `warehouse`."""
    async with await aio_pika.connect(running.locations.rabbitmq) as connection:
        queue = await (await connection.channel()).get_queue("crm")
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()


def _say(text: str) -> None:
    sys.stdout.write(f"screenshots: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
