"""The figures of slow and hostile clients, of answers without a broker, and of a long drain."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import aiohttp

from bridge.settings.sections import Receiver as ReceiverSettings
from bridge.spool.entries import SpoolEntry
from bridge.spool.spool_file import SpoolFile
from tests.programs.faults import hostile
from tests.programs.faults.events import events as endless_events
from tests.programs.faults.stage import WEBHOOK
from tests.programs.faults.steady import AS_FAST_AS_ANSWERED, steady

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.programs.faults.stage import Receiver, Stage
    from tests.programs.faults.steady import Answers

    Tell = Callable[[str], None]
    Measure = Callable[[Stage, Tell], Awaitable[list["Figure"]]]

ROUNDS: Final = 3
"""Answer times are medians of so many runs: the disk is shared."""
SLOW: Final = 500
SLOW_SECONDS: Final = 25.0
"""Longer than a head may take."""
HONEST_RATE: Final = 200.0
BAD_REQUESTS: Final = 100_000
DRAINED: Final = 1_000_000
_BUSY: Final = 64
"""Connections of a client at its busiest."""
_LIVE: Final = 16
"""Connections of the traffic beside a drain."""
_RUN_SECONDS: Final = 5.0
_STOPPED_AFTER_SECONDS: Final = 1.0
_FILLED_AT_ONCE: Final = 20_000
_LOOK_EVERY_SECONDS: Final = 0.5
_MIB: Final = 1024**2

_CONFIRM_WAIT: Final = ReceiverSettings().confirm_wait
_MOST_MIB: Final = 30.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    measured: str
    target: str
    good: bool
    values: dict[str, float]
    """Seconds, bytes and counts, for programs."""


async def slow_clients(stage: Stage, tell: Tell) -> list[Figure]:
    """500 connections of a byte a second beside an honest client."""
    receiver = await stage.connected_receiver()
    tell("an honest client, alone")
    before = await _honest(receiver.port)
    tell(f"and beside {SLOW} slow ones")
    async with asyncio.TaskGroup() as both:
        dripping = both.create_task(
            hostile.drip(receiver.port, WEBHOOK, connections=SLOW, seconds=SLOW_SECONDS)
        )
        beside = both.create_task(_honest(receiver.port))
    during, endings = beside.result(), dripping.result()
    documented = set(endings.heads) == {"closed"} and set(endings.bodies) == {"408"}
    return [
        _answer_times("honest client, 200 events/s, alone", before),
        _answer_times(f"the same beside {SLOW} connections of 1 byte/s", during, p99=0.05),
        Figure(
            f"how those {SLOW} ended",
            f"heads {_counted(endings.heads)}, bodies {_counted(endings.bodies)}; held {endings.longest:.1f} s at most",
            "closed, 408",
            documented,
            {"longest": endings.longest},
        ),
    ]


async def bad_requests(stage: Stage, tell: Tell) -> list[Figure]:
    """100,000 bad requests of every kind, and the memory they leave behind."""
    receiver = await stage.connected_receiver()
    before = receiver.resident_bytes
    done, began = 0, time.monotonic()

    def sent(more: int) -> None:
        nonlocal done
        done += more
        tell(f"{done:,} of {BAD_REQUESTS:,} bad requests")

    tally = await hostile.flood(receiver.port, WEBHOOK, requests=BAD_REQUESTS, sent=sent)
    took = time.monotonic() - began
    growth = receiver.resident_bytes - before
    after = await steady(receiver.port, WEBHOOK, connections=1, seconds=0.5, rate=20)
    return [
        Figure(
            f"memory after {tally.requests:,} bad requests of {len(hostile.kinds(WEBHOOK))} kinds",
            f"{before / _MIB:.0f} MiB, {growth / _MIB:+.1f} MiB",
            f"below {_MOST_MIB:+.0f} MiB",
            growth < _MOST_MIB * _MIB,
            {"before": before, "growth": growth, "seconds": took},
        ),
        Figure(
            "their answers",
            f"{_counted(tally.answered)}; {tally.resets} reset; {tally.requests / took:,.0f}/s"
            + (f"; not as documented: {_counted(tally.wrong)}" if tally.wrong else ""),
            "as documented",
            not tally.wrong,
            dict(tally.wrong),
        ),
        Figure(
            "answers to good requests afterwards",
            _counted(after.durability + after.refused),
            "confirmed",
            set(after.durability + after.refused) == {"confirmed"},
            {},
        ),
    ]


async def broker_away(stage: Stage, tell: Tell) -> list[Figure]:
    """Answers from the spool while the broker is down, and while it hangs."""
    receiver = await stage.connected_receiver()
    figures = [await _hanging(stage, receiver, tell)]
    await stage.node.kill()
    await steady(receiver.port, WEBHOOK, connections=1, seconds=1, rate=10)  # it has noticed by then
    for name, rate in (
        (f"{_BUSY} connections, closed loop", AS_FAST_AS_ANSWERED),
        ("1,000 events/s", 1000.0),
    ):
        runs = []
        for number in range(ROUNDS):
            tell(f"broker down, {name}, run {number + 1} of {ROUNDS}")
            runs.append(await _busy(receiver.port, rate))
        figures.append(_answer_times(f"broker down, {name}", runs, p99=0.025, all_of_them="spooled"))
    return figures


async def long_drain(stage: Stage, tell: Tell) -> list[Figure]:
    """A million events in the spool: beside live traffic first, then alone."""
    receiver = await stage.connected_receiver()
    tell("live traffic without a drain")
    alone = await _live(receiver.port)
    await receiver.empty()
    await receiver.stop()
    await asyncio.to_thread(_fill, stage.spool_directory, tell)
    tell("starting on a full spool")
    began = time.monotonic()
    receiver = await stage.connected_receiver()
    start = time.monotonic() - began
    memory = receiver.resident_bytes
    async with aiohttp.ClientSession() as http:
        left, began = await receiver.spooled(http), time.monotonic()
        tell("live traffic beside the drain")
        beside = await _live(receiver.port)
        beside_rate = (left - (left := await receiver.spooled(http))) / (time.monotonic() - began)
        began, rest, peak = time.monotonic(), left, receiver.resident_bytes
        while left:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            left = await receiver.spooled(http)
            peak = max(peak, receiver.resident_bytes)
            tell(f"{left:,} events still in the spool")
        took = time.monotonic() - began
        tell("live traffic after the drain")
        alone += await _live(receiver.port)
    return [
        _share_left(alone, beside),
        Figure(
            f"drain of a spool of {DRAINED:,}, beside that traffic",
            f"{beside_rate:,.0f} events/s",
            "",
            beside_rate > 0,
            {"rate": beside_rate},
        ),
        Figure(
            "and without other traffic",
            f"{rest:,} in {took:.0f} s: {rest / took:,.0f} events/s",
            "",
            good=True,
            values={"rate": rest / took},
        ),
        Figure(
            "memory while it drains",
            f"{memory / _MIB:.0f} MiB, {(peak - memory) / _MIB:+.1f} MiB",
            f"below {_MOST_MIB:+.0f} MiB",
            peak - memory < _MOST_MIB * _MIB,
            {"before": memory, "growth": peak - memory},
        ),
        Figure(
            "start on that spool, until it listens",
            f"{start:.1f} s",
            "",
            good=True,
            values={"seconds": start},
        ),
    ]


ALL: Final[dict[str, Measure]] = {
    "slow clients": slow_clients,
    "bad requests": bad_requests,
    "broker away": broker_away,
    "long drain": long_drain,
}


async def _hanging(stage: Stage, receiver: Receiver, tell: Tell) -> Figure:
    """The broker is there and says nothing (SIGSTOP)."""
    runs = []
    for number in range(ROUNDS):
        tell(f"broker stopped, run {number + 1} of {ROUNDS}")
        async with asyncio.TaskGroup() as both:
            running = both.create_task(_busy(receiver.port, 1000.0))
            await asyncio.sleep(_STOPPED_AFTER_SECONDS)
            stage.node.signal(signal.SIGSTOP)
        stage.node.signal(signal.SIGCONT)
        runs.append(running.result())
        await receiver.empty()
    return _answer_times("broker stopped (SIGSTOP), 1,000 events/s", runs, worst=_CONFIRM_WAIT + 0.05)


async def _honest(port: int) -> list[Answers]:
    seconds = SLOW_SECONDS / ROUNDS
    return [
        await steady(port, WEBHOOK, connections=8, seconds=seconds, rate=HONEST_RATE) for _ in range(ROUNDS)
    ]


async def _busy(port: int, rate: float) -> Answers:
    return await steady(port, WEBHOOK, connections=_BUSY, seconds=_RUN_SECONDS, rate=rate)


async def _live(port: int) -> list[Answers]:
    return [await steady(port, WEBHOOK, connections=_LIVE, seconds=_RUN_SECONDS) for _ in range(ROUNDS)]


def _fill(directory: Path, tell: Tell) -> None:
    """As a receiver that the broker was away from for long has left it."""
    events, received_at = endless_events(), time.time_ns() // 1_000_000
    file = SpoolFile(directory / "spool-0.sqlite3", min_free_bytes=0)
    try:
        for first in range(1, DRAINED + 1, _FILLED_AT_ONCE):
            numbers = range(first, first + _FILLED_AT_ONCE)
            file.write([SpoolEntry(number, received_at, next(events).body) for number in numbers], [])
            tell(f"{numbers.stop - 1:,} of {DRAINED:,} events put into the spool")
    finally:
        file.close()


def _share_left(alone: list[Answers], beside: list[Answers]) -> Figure:
    """Alone is before and after: what else this machine does changes in the minutes between."""
    before, during = (median(len(run.seconds) / _RUN_SECONDS for run in runs) for runs in (alone, beside))
    return Figure(
        f"live traffic, {_LIVE} connections, beside the drain",
        f"{during:,.0f} of {before:,.0f} events/s ({during / before:.0%})",
        "75% or more",
        during >= 0.75 * before,
        {"alone": before, "beside": during},
    )


def _answer_times(
    what: str,
    runs: list[Answers],
    *,
    p99: float = float("inf"),
    worst: float = float("inf"),
    all_of_them: str | None = None,
) -> Figure:
    """Medians over the runs, and beside them the worst answer of all; `all_of_them` is the durability of each."""
    half, nearly_all = (median(run.quantile(share) for run in runs) for share in (0.5, 0.99))
    worst_usual, worst_of_all = median(run.worst for run in runs), max(run.worst for run in runs)
    kinds = sum((run.durability + run.refused for run in runs), Counter[str]())
    expected = {all_of_them} if all_of_them else {"confirmed", "spooled"}
    targets = {"p99 below": p99, "worst below": worst}
    return Figure(
        what,
        f"p50 {_ms(half)}, p99 {_ms(nearly_all)}, worst {_ms(worst_usual)} (of all {_ms(worst_of_all)})"
        f"; {_counted(kinds)}",
        ", ".join(f"{name} {_ms(most)}" for name, most in targets.items() if most < float("inf")),
        nearly_all < p99 and worst_usual < worst and set(kinds) <= expected,
        {"p50": half, "p99": nearly_all, "worst": worst_usual, "worst_of_all": worst_of_all},
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "none"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
