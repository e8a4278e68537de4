"""A real Chromium, Debian's, and what every page of the console must hold in it."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from playwright.async_api import async_playwright, expect

from tests.support.console import OVERRIDER, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, ConsoleMessage, Page

NARROW: Final = 360
"""Pixels of the narrowest screen for which the pages are made."""
_PROGRAM: Final = "chromium"
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""axe-core's names of what it looks for."""
_PATIENCE_MILLISECONDS: Final = 90_000
"""For what a page is to show. Playwright has five and thirty seconds, and browsers, RabbitMQ and tests share a busy machine."""
_LEFT_BEHIND: Final = ("htmx:sendAbort", "htmx:afterRequest")
"""How htmx tells of a request that it, or the browser, has given up: the page was left, or more was typed. The second comes
with every failure as well, and then not alone: beside `htmx:sendError` or `htmx:timeout`."""


expect.set_options(timeout=_PATIENCE_MILLISECONDS)


def chromium() -> str:
    """The path of the program; who takes it is skipped where there is none (`make chromium`)."""
    path = shutil.which(_PROGRAM)
    if path is None:
        pytest.skip("there is no chromium on this machine")
    return path


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """One Chromium, without a window. As root it runs only without its sandbox."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=[*arguments, "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Window:
    """One page of a browser that keeps cookies of its own, and all that the page has complained of."""

    page: Page
    base: str
    """As http://127.0.0.1:8081/console."""
    errors: list[str] = field(default_factory=list)
    """What stood in the browser's console as an error, violations of the Content-Security-Policy among them, and
    exceptions of scripts. The window may not be left with one; what a test provokes it takes out with `expect_error`."""

    async def open(self, path: str) -> None:
        """Go to this path below /console."""
        await self.page.goto(self.base + path)

    async def sign_in(self, name: str = OVERRIDER, path: str = "/") -> None:
        """With the token of this name, and on to this path, as a person does."""
        await self.open("/sign-in")
        await self.page.get_by_label("Token of the API").fill(token_of(name))
        await self.page.keyboard.press("Enter")
        await self.page.get_by_role("button", name="Sign out").wait_for()
        if path != "/":
            await self.open(path)

    def expect_error(self, part: str) -> None:
        """Fails unless there was an error with this text; takes all those out."""
        assert [one for one in self.errors if part in one], f"no {part!r} in {self.errors}"
        self.errors = [one for one in self.errors if part not in one]

    async def check(self, axe: str, *, schemes: bool = True) -> None:
        """What every page holds: no violation that axe-core finds, light and dark; no scrolling sideways on a narrow screen.

        Args:
            axe: axe-core itself, as `axe_script` reads it.
            schemes: also look at it in the dark.
        """
        both: tuple[Literal["light", "dark"], ...] = ("light", "dark") if schemes else ("light",)
        for scheme in both:
            await self.page.emulate_media(color_scheme=scheme)
            found = await self._violations(axe)
            assert found == [], f"{self.page.url}, {scheme}: {found}"
        await self.page.emulate_media(color_scheme="light")
        await self.check_width()

    async def check_width(self) -> None:
        """At 360 px the page does not scroll sideways; what is wider scrolls by itself."""
        usual = self.page.viewport_size
        await self.page.set_viewport_size({"width": NARROW, "height": 740})
        width = await self.page.evaluate("document.documentElement.scrollWidth")
        wide = await self.page.evaluate(_TOO_WIDE, NARROW)
        assert width <= NARROW, f"{self.page.url} is {width} px wide because of {wide}"
        if usual is not None:
            await self.page.set_viewport_size(usual)

    async def _violations(self, axe: str) -> list[str]:
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(axe)
        found: list[dict[str, Any]] = await self.page.evaluate(
            "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(found => found.violations)",
            _RULES,
        )
        return [
            f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:5]}"
            f" {one['nodes'][0].get('failureSummary')}"
            for one in found
        ]


_TOO_WIDE: Final = """width => [...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > width + 1 && !one.closest('.scroll, pre, .visually-hidden, .skip'))
    .slice(0, 5).map(one => one.outerHTML.slice(0, 120))"""


def axe_script(npm_packages: Path) -> str:
    """axe-core. Args: the fixture of this name."""
    return (npm_packages / "axe-core" / "axe.min.js").read_text()


@asynccontextmanager
async def window(browser: Browser, base: str) -> AsyncIterator[Window]:
    """A window in which nobody is signed in; fails at the end if its page has complained. Args: as `Window.base`."""
    async with await browser.new_context(reduced_motion="reduce") as context:
        page = await context.new_page()
        page.set_default_timeout(_PATIENCE_MILLISECONDS)
        shown = Window(page, base)

        def said(message: ConsoleMessage) -> None:
            if message.type == "error" and not message.text.startswith(_LEFT_BEHIND):
                shown.errors.append(f"{message.text} ({message.location['url']})")

        page.on("console", said)
        page.on("pageerror", lambda error: shown.errors.append(str(error)))
        yield shown
        assert not shown.errors, f"the page has complained: {shown.errors}"
