"""How fast the list answers senders: the store alone, through the API, and what one would do instead."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import asyncpg
import typer
import uvloop
from rich.console import Console

from bridge.settings import sections
from bridge.suppression.store import Store
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.bench import lists
from tests.programs.bench.asking import PerAddress, RunningApi
from tests.programs.bench.working import POSTGRESQL, every_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.programs.bench.throughput import Say

ENTRIES: Final = 1_000_000
SHORT: Final = 100_000
"""Entries of the list with which a longer one is compared."""
SHARE: Final = 0.1
"""Of the addresses that are asked for, how many are on the list."""
RATE: Final = 500
"""Requests a second, each for one address."""
_BARE: Final = "SELECT address, reason, first_event_at, expires_at FROM suppressions WHERE address = ANY($1)"
_PAGE: Final = 1000
_MANY: Final = 1_000
_MOST: Final = 10_000
_WARMING: Final = 40
"""Checks of `_MOST` before lists of different length are compared: by then a database has read nearly every page of the index."""


class Times(NamedTuple):
    """Seconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        ordered = sorted(seconds)
        return cls(statistics.median(ordered), ordered[len(ordered) * 99 // 100])


@dataclass(frozen=True, slots=True)
class CheckFigures:
    """Of one store. Ratios are medians of measurements that were made in turn."""

    store: str
    entries: int
    many: Times
    """A check of 1,000."""
    most: Times
    """A check of 10,000."""
    to_bare: float | None
    """Of the first, to the bare query on the same list; None on SQLite."""
    one: Times
    """One address through the API, at `RATE` requests a second."""
    per_second: float
    """Addresses through the API, 10,000 in a request."""
    loop_ratio: float | None
    """Time for 1,000 addresses with a request for each, to ours in one request; None on SQLite."""
    page_ratio: float
    """Page 1,000 of the listing to page 1."""
    longest: int
    """Entries of the longest list."""
    longer_ratio: float
    """A check of 1,000 on the longest list, to one on a list of `SHORT`: the store alone."""
    longer_api_ratio: float
    """The same through the API: what a sender waits for."""


async def measure(*, rounds: int, longest: int = ENTRIES, say: Say) -> list[CheckFigures]:
    """Fill lists and ask them, on each store.

    Args:
        rounds: how often what takes long is done: checks of 1,000 a hundred times in each.
        longest: entries of the list that is compared with a short one.
        say: told of each figure as it comes, one line.

    Raises:
        RuntimeError: an answer is wrong, or the API does not start.
    """
    figures = []
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        buffers = shared_buffers()
        say(f"PostgreSQL: shared_buffers = {buffers}, a quarter of the memory")
        async with every_store(settings=f"shared_buffers = {buffers}\n") as stores:
            for store, url_in in stores:
                urls = {}
                for entries in dict.fromkeys((SHORT, ENTRIES, longest)):
                    place = Path(folder) / f"{store}-{entries}"
                    place.mkdir()
                    urls[entries] = await url_in(place)
                    began = time.perf_counter()
                    await lists.fill(urls[entries], entries)
                    say(f"{store}: {entries:,} entries made in {time.perf_counter() - began:.0f} s")
                await asyncio.to_thread(os.sync)  # else the system writes gigabytes while we measure
                figures.append(await _of_store(store, urls, rounds=rounds, longest=longest, say=say))
                say(str(figures[-1]))
    return figures


async def _of_store(store: str, urls: dict[int, str], *, rounds: int, longest: int, say: Say) -> CheckFigures:
    url, chance = urls[ENTRIES], random.Random(1)  # noqa: S311 -- the same addresses in each run
    async with AsyncExitStack() as stack:
        short, middle, long = [
            await stack.enter_async_context(Store.open(urls[entries]))
            for entries in (SHORT, ENTRIES, longest)
        ]
        pages = await _alternately(
            [lambda: _page(middle, 1), lambda: _page(middle, ENTRIES // _PAGE)], 20 * rounds
        )
        for _ in range(_WARMING):
            await _checked(short, SHORT, chance, _MOST)
            await _checked(long, longest, chance, _MOST)
        longer = await _alternately(
            [lambda: _checked(short, SHORT, chance), lambda: _checked(long, longest, chance)], 50 * rounds
        )
        many = await _alternately([lambda: _checked(middle, ENTRIES, chance)], 100 * rounds)
        most = await _alternately([lambda: _checked(middle, ENTRIES, chance, _MOST)], 20 * rounds)
        to_bare = loop_ratio = None
        if store == POSTGRESQL:
            bare = await asyncpg.connect(url.replace("+asyncpg", ""))
            stack.push_async_callback(bare.close)
            both = [lambda: _checked(middle, ENTRIES, chance), lambda: _bare(bare, chance)]
            to_bare = _ratio(await _alternately(both, 100 * rounds))
            say(f"{store}: a check of {_MANY:,} ÷ the bare query: {to_bare:.2f}")
    longer_api = await _longer_through_api(urls, longest, chance, 50 * rounds)
    async with RunningApi.started(url) as api:
        alone = lists.addresses(RATE * 5 * rounds, ENTRIES, share=SHARE, chance=chance)
        one = Times.of(await api.one_at_a_time(alone, rate=RATE))
        per_second = await api.in_bulk(
            [lists.addresses(_MOST, ENTRIES, share=SHARE, chance=chance) for _ in range(10 * rounds)]
        )
        if store == POSTGRESQL:
            async with PerAddress.started(url) as loop:
                asked = lists.addresses(_MANY, ENTRIES, share=SHARE, chance=chance)
                loop_ratio = 1 / _ratio(
                    await _alternately([lambda: api.check(asked), lambda: loop.check(asked)], 3 * rounds)
                )
    return CheckFigures(
        store=store,
        entries=ENTRIES,
        many=Times.of(many[0]),
        most=Times.of(most[0]),
        to_bare=to_bare,
        one=one,
        per_second=per_second,
        loop_ratio=loop_ratio,
        page_ratio=1 / _ratio(pages),
        longest=longest,
        longer_ratio=1 / _ratio(longer),
        longer_api_ratio=1 / _ratio(longer_api),
    )


def shared_buffers() -> str:
    """What PostgreSQL's manual gives as a start for a server that does nothing else: a quarter of the memory."""
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 4 // 2**20}MB"


async def _longer_through_api(
    urls: dict[int, str], longest: int, chance: random.Random, times: int
) -> list[list[float]]:
    """Seconds of requests for 1,000 addresses, on the short list and on the longest."""

    async def asked(api: RunningApi, entries: int, count: int = _MANY) -> float:
        return await api.check(lists.addresses(count, entries, share=SHARE, chance=chance))

    async with RunningApi.started(urls[SHORT]) as short, RunningApi.started(urls[longest]) as long:
        for _ in range(_WARMING):
            await asked(short, SHORT, _MOST)
            await asked(long, longest, _MOST)
        return await _alternately([lambda: asked(short, SHORT), lambda: asked(long, longest)], times)


async def _alternately(them: Sequence[Callable[[], Awaitable[float]]], times: int) -> list[list[float]]:
    """Seconds of each, done in turn, so that what disturbs one disturbs the others, too. The first round warms up."""
    taken: list[list[float]] = [[] for _ in them]
    for number in range(times + 1):
        for one, seconds in zip(them, taken, strict=True):
            took = await one()
            if number:
                seconds.append(took)
    return taken


def _ratio(taken: Sequence[Sequence[float]]) -> float:
    """The first to the second."""
    ratios = [one / other for one, other in zip(taken[0], taken[1], strict=True)]
    return statistics.median(ratios)


async def _checked(store: Store, entries: int, chance: random.Random, count: int = _MANY) -> float:
    asked = lists.addresses(count, entries, share=SHARE, chance=chance)
    began = time.perf_counter()
    answers = await store.check_many(asked)
    took = time.perf_counter() - began
    if sum(not answer.allowed for answer in answers) != round(count * SHARE):
        raise RuntimeError("a check found other addresses on the list than are there")
    return took


async def _bare(connection: asyncpg.Connection, chance: random.Random) -> float:
    asked = lists.addresses(_MANY, ENTRIES, share=SHARE, chance=chance)
    began = time.perf_counter()
    await connection.fetch(_BARE, asked)
    return time.perf_counter() - began


async def _page(store: Store, number: int) -> float:
    """Whoever is on this page has the cursor of the one before."""
    behind = lists.address(2 * (number - 1) * _PAGE - 2) if number > 1 else ""
    began = time.perf_counter()
    page = await store.entries(limit=_PAGE, after=(behind, "hard_bounce"))
    took = time.perf_counter() - began
    if len(page) != _PAGE or page[0].address != lists.address(2 * (number - 1) * _PAGE):
        raise RuntimeError("a page has not what it should have")
    return took


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 1,
    longest: Annotated[
        int, typer.Option(help="Entries of the longest list; 10,000,000 take some minutes to make.")
    ] = ENTRIES,
) -> None:
    """Measure checks and pages of long lists, on both stores, and through the API.

    Example: python -m tests.programs.bench.checking --longest 10000000
    """
    logs.configure(sections.Logs(level="error"))
    console = Console(width=110)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            measure(rounds=rounds, longest=longest, say=lambda line: console.print(line, highlight=False))
        )


if __name__ == "__main__":
    program.run(main)
