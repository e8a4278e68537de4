"""How long after a click a page of the console is there, on a list of a million entries: in Chromium, and the server's part."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from bridge.settings import sections
from bridge.telemetry import logs
from bridge.timestamps import rfc3339
from tests.programs import program
from tests.programs.bench.asking import TOKEN, Server
from tests.programs.bench.working import every_store
from tests.support.browser import running_browser
from tests.support.commands import environment_without_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from playwright.async_api import Page

ENTRIES: Final = 1_000_000
BAR: Final = 0.3
"""Seconds from a click to the page."""
_NAMES: Final = (
    "anna",
    "ben",
    "carla",
    "emma",
    "felix",
    "greta",
    "hans",
    "jane",
    "karl",
    "lena",
    "max",
    "zoe",
)
_FAMILIES: Final = (
    "becker",
    "braun",
    "hoffmann",
    "klein",
    "koch",
    "lehmann",
    "meyer",
    "miller",
    "smith",
    "wolf",
)
_BIG: Final = ("gmail.com", "outlook.com", "yahoo.com")
_DOMAINS: Final = 5000
_SINCE: Final = 1_700_000_000
_STEP: Final = 60
"""Seconds from one entry to the next."""

_REMEMBER_CLICKS: Final = """
addEventListener('click', () => sessionStorage.setItem('clicked', Date.now()), true);
addEventListener('input', () => { window.typed = Date.now(); window.took = null }, true);
document.addEventListener('htmx:afterSettle', event => {
  const asked = new URL(event.detail.xhr.responseURL).searchParams.get('q');
  if (window.took === null && asked === document.querySelector('#q')?.value) window.took = Date.now() - window.typed;
});
"""
_TOOK: Final = """() => new Promise(resolve => {
  const done = () => {
    const [paint] = performance.getEntriesByName('first-contentful-paint');
    const [page] = performance.getEntriesByType('navigation');
    if (!paint || !page.loadEventEnd) return setTimeout(done, 5);
    const shown = performance.timeOrigin + Math.max(paint.startTime, page.domContentLoadedEventEnd);
    resolve(shown - Number(sessionStorage.getItem('clicked')));
  };
  done();
})"""
"""From the last click to the moment when the page is complete and painted, in milliseconds."""


class ConsoleApi(Server):
    """`bridge api` with the console, one process."""

    COMMAND = ("bridge", "api")
    READY = "/v1/suppressions?limit=1"

    @property
    def base(self) -> str:
        return f"{self._url}/console"

    @staticmethod
    def environment(database_url: str, port: int) -> dict[str, str]:
        return {
            "BRIDGE_API__PORT": str(port),
            "BRIDGE_API__TOKENS": f"bench:read+write+override:{TOKEN}",
            "BRIDGE_HEALTH__PORT": "0",
            "BRIDGE_SUPPRESSION__DATABASE_URL": database_url,
            "BRIDGE_LOGS__LEVEL": "error",
            "BRIDGE_RABBITMQ__URLS": "amqp://nobody:nothing@127.0.0.1:9/",  # no page of the list needs it
        }


@dataclass(frozen=True, slots=True)
class PageRow:
    """One page or action on one store. Seconds."""

    store: str
    page: str
    median: float
    longest: float
    server: float | None
    """The server's part: from the request to the last byte, the median; None where it was not asked alone."""


def write_list(file: Path, entries: int) -> list[str]:
    """A file of so many addresses, as an export of this bridge. Returns some of them."""
    chance = random.Random(1)  # noqa: S311 -- the same file in each run
    some = []
    with file.open("w", encoding="utf-8") as written:
        written.write(
            "address,reason,original,first_event_at,last_event_at,count,message_id,created_at,updated_at\n"
        )
        for number in range(entries):
            big = chance.random()
            domain = _BIG[int(big * 6)] if big < 0.5 else f"d{number % _DOMAINS}.example.org"
            address = f"{chance.choice(_NAMES)}.{chance.choice(_FAMILIES)}{number}@{domain}"
            kind = chance.random()
            reason = "hard_bounce" if kind < 0.8 else "complaint" if kind < 0.9999 else "manual"
            at = rfc3339(_SINCE + number * _STEP)
            written.write(f"{address},{reason},{address},{at},{at},1,{number},{at},{at}\n")
            if number % (entries // 200 or 1) == 0:
                some.append(address)
    return some


async def measure(*, rounds: int, entries: int, say: Callable[[str], None]) -> list[PageRow]:
    """Import a list into each store, and click through the console.

    Args:
        rounds: how often each.
        entries: of the list.
        say: told of each figure as it comes, one line.

    Raises:
        RuntimeError: the import failed, or the API does not start.
    """
    found: list[PageRow] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-bench-")))
        some = await asyncio.to_thread(write_list, folder / "list.csv", entries)
        browser = await stack.enter_async_context(running_browser())
        for store, url_in in await stack.enter_async_context(every_store()):
            (folder / store).mkdir()
            url = await url_in(folder / store)
            seconds = await asyncio.to_thread(_import, folder, url)
            say(f"{store}: {entries:,} entries imported in {seconds:.0f} s")
            async with ConsoleApi.started(url) as api, await browser.new_context() as context:
                server = await _server_times(api.base, some, entries, rounds)
                page = await context.new_page()
                await page.add_init_script(_REMEMBER_CLICKS)
                clicks = await _Clicks(page, api.base, some, entries).made(rounds)
            for name, taken in clicks.items():
                row = PageRow(store, name, statistics.median(taken), max(taken), server.get(name))
                say(f"{store}: {name}: {row.median * 1000:.0f} ms")
                found.append(row)
    return found


def _import(folder: Path, url: str) -> float:
    environment = environment_without_settings() | {"BRIDGE_SUPPRESSION__DATABASE_URL": url}
    began = time.monotonic()
    for arguments in (("db", "upgrade"), ("suppressions", "import", "list.csv")):
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *arguments],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"`bridge {' '.join(arguments)}` ended with {done.returncode}")
    os.sync()  # else the system writes while we measure
    return time.monotonic() - began


async def _server_times(base: str, some: Sequence[str], entries: int, rounds: int) -> dict[str, float]:
    """Page -> seconds from the request to the last byte."""
    late = rfc3339(_SINCE + (entries - 1000) * _STEP)
    paths: dict[str, Callable[[int], str]] = {
        SEARCH: lambda turn: f"/address/search?q={some[turn % len(some)][:6]}",
        ONE: lambda turn: f"/address/{some[turn % len(some)]}",
        LIST: lambda _: "/list",
        RARE_REASON: lambda _: "/list?reason=manual",
        RARE_TEXT: lambda _: "/list?text=nobody-is-called-that",
        DOMAIN: lambda _: "/list?domain=gmail.com&reason=complaint",
        SINCE: lambda _: f"/list?changed_since={late}",
    }
    taken: dict[str, list[float]] = {name: [] for name in paths}
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.post(f"{base}/sign-in", data={"token": TOKEN, "next": "/address"}) as signed:
            if signed.status != 200:
                raise RuntimeError(f"nobody could sign in: {signed.status}")
        for turn in range(rounds):
            for name, path in paths.items():
                began = time.perf_counter()
                async with session.get(base + path(turn)) as answer:
                    await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{name} was answered {answer.status}")
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


MENU: Final = "menu → Address"
SEARCH: Final = "a letter typed → the addresses found (120 ms of it: waiting for the next letter)"
ONE: Final = "an address found → its page"
LIFT: Final = "Lift → the page that says so"
LIST: Final = "menu → List"
NEXT: Final = "Next page"
RARE_REASON: Final = "filter: a reason that one of 10,000 has"
RARE_TEXT: Final = "filter: a text that nobody has"
ALL_OF_IT: Final = "… until the whole list is looked through for it"
DOMAIN: Final = "filter: complaints of the largest domain"
SINCE: Final = "filter: the last 1,000 changes"


@dataclass(frozen=True, slots=True)
class _Clicks:
    """Somebody who clicks through the pages of the list."""

    page: Page
    base: str
    some: Sequence[str]
    entries: int

    async def made(self, rounds: int) -> dict[str, list[float]]:
        """What was clicked -> seconds until it was there, for each round."""
        page = self.page
        await page.goto(f"{self.base}/sign-in")
        await page.get_by_label("Token of the API").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Sign out").wait_for()
        taken: dict[str, list[float]] = {}
        for turn in range(-1, rounds):  # the first one warms up: style and scripts are loaded once
            for name, seconds in (await self._round(turn % len(self.some))).items():
                if turn >= 0:
                    taken.setdefault(name, []).append(seconds)
        return taken

    async def _round(self, turn: int) -> dict[str, float]:
        page, address = self.page, self.some[turn]
        taken = {MENU: await self._shown(page.get_by_role("link", name="Address", exact=True).click)}
        await page.keyboard.type(address[:-1])
        await page.locator("#found").get_by_role("link", name=address).wait_for()
        await page.keyboard.type(address[-1])
        await page.wait_for_function("() => window.took !== null && window.took !== undefined")
        taken[SEARCH] = await page.evaluate("window.took") / 1000
        taken[ONE] = await self._shown(page.locator("#found").get_by_role("link", name=address).click)
        await page.locator("summary", has_text="Lift: write").click()
        await page.locator("#lift-note").fill("for the figures")
        if await page.locator("#lift-override").count():
            await page.locator("#lift-override").check()
        taken[LIFT] = await self._shown(page.get_by_role("button", name="Lift", exact=True).click)
        taken[LIST] = await self._shown(page.get_by_role("link", name="List", exact=True).click)
        taken[NEXT] = await self._shown(page.get_by_role("link", name="Next page").click)
        taken[RARE_REASON] = await self._filtered("#reason", "manual")
        taken[RARE_TEXT] = await self._filtered("#text", "nobody-is-called-that")
        began = time.perf_counter()
        await page.get_by_text("No entry fits the filters.").wait_for()
        taken[ALL_OF_IT] = taken[RARE_TEXT] + time.perf_counter() - began
        await page.goto(f"{self.base}/list")
        await page.locator("#domain").fill("gmail.com")
        taken[DOMAIN] = await self._filtered("#reason", "complaint")
        late = rfc3339(_SINCE + (self.entries - 1000) * _STEP)[:10]
        taken[SINCE] = await self._filtered("#changed_since", late)
        return taken

    async def _filtered(self, field: str, value: str) -> float:
        if field == "#reason":
            await self.page.locator(field).select_option(value)
        else:
            await self.page.goto(f"{self.base}/list")
            await self.page.locator(field).fill(value)
        return await self._shown(self.page.get_by_role("button", name="Filter").click)

    async def _shown(self, click: Callable[[], Awaitable[None]]) -> float:
        """Seconds from the click to the page, complete and painted."""
        async with self.page.expect_navigation():
            await click()
        return float(await self.page.evaluate(_TOOK)) / 1000


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is clicked.")] = 20,
    entries: Annotated[int, typer.Option(min=1000, help="Of the list.")] = ENTRIES,
) -> None:
    """Click through the console on a long list, on both stores.

    Example: python -m tests.programs.bench.console_pages --entries 100000
    """
    logs.configure(sections.Logs(level="error"))
    console = Console(width=150)
    found = asyncio.run(
        measure(rounds=rounds, entries=entries, say=lambda line: console.print(line, highlight=False))
    )
    table = Table("store", "click", "median", "longest", "the server's part", "within 300 ms")
    for row in found:
        within = (
            "-"
            if row.page == ALL_OF_IT
            else "yes"
            if row.longest <= BAR
            else "the median"
            if row.median <= BAR
            else "NO"
        )
        table.add_row(
            row.store,
            row.page,
            f"{row.median * 1000:.0f} ms",
            f"{row.longest * 1000:.0f} ms",
            "" if row.server is None else f"{row.server * 1000:.0f} ms",
            within,
        )
    console.print(table)


if __name__ == "__main__":
    program.run(main)
