"""All that one run has measured, and what it says of the bar that the project has set itself."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.programs.bench import building, entrants, tracing, transfer
from tests.programs.bench.working import POSTGRESQL, SQLITE, WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.programs.bench.building import BuildingRow
    from tests.programs.bench.checking import CheckFigures
    from tests.programs.bench.fan_out import FanOutRow
    from tests.programs.bench.growth_curves import Curve
    from tests.programs.bench.longer import AnswerTimes, Memory
    from tests.programs.bench.scaling import ScalingRow
    from tests.programs.bench.throughput import Measurement, Row
    from tests.programs.bench.tracing import TracingRow
    from tests.programs.bench.transfer import TransferRow
    from tests.programs.bench.working import WorkerRow

_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Results:
    about: str
    """On what, and how it was measured: one line."""
    receivers: tuple[Row, ...]
    skipped: Mapping[str, str]
    """Contender -> why it was not measured."""
    answer_times: AnswerTimes | None
    memory: Memory | None
    workers: tuple[WorkerRow, ...]
    scaling: tuple[ScalingRow, ...]
    errors: tuple[str, ...]
    """What could not be measured at all, and why."""
    transfers: tuple[TransferRow, ...] = ()
    checks: tuple[CheckFigures, ...] = ()
    fan_out: tuple[FanOutRow, ...] = ()
    built: tuple[BuildingRow, ...] = ()
    """Messages for the tests of consumers."""
    traced: tuple[TracingRow, ...] = ()
    growth: tuple[Curve, ...] = ()
    """Cost against size."""

    @property
    def good(self) -> bool:
        parts = (*self.receivers, self.answer_times, self.memory, *self.fan_out, *self.traced)
        return not self.errors and not any(part.errors for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the bar."""

    what: str
    measured: float
    bar: float
    aim: float | None
    at_most: bool
    """Whether less is better."""
    unit: str
    """Behind the numbers; empty for a ratio."""

    @property
    def holds(self) -> bool:
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar


def bars(results: Results) -> list[Bar]:
    """The bar of the issue "Fast", as far as this run has measured what it takes."""
    every = [
        _at_most("receiver's CPU per confirmed event ÷ no-op", _cpu_to_noop(results), 1.15, 1.0),
        _at_least("confirmed events/s ÷ naive aio-pika", _rate(results, entrants.NAIVE), 2.8, 3.5),
        _at_least("confirmed events/s ÷ FastAPI + FastStream", _rate(results, entrants.FASTSTREAM), 6.5, 8),
        _at_least(
            "confirmed events/s ÷ Fastify + rabbitmq-client", _rate(results, entrants.FASTIFY), 0.95, 1.2
        ),
        _at_least("spooled events/s ÷ no-op", _spooled_to_noop(results), 0.6, 0.8),
        _at_most("p99 at 2,000 events/s, broker up", _p99(results), 10, 5, "ms"),
        *(
            _at_least(f"worker's events/s ÷ per-message loop, {store}", _worker(results, store), 4, 8)
            for store in (SQLITE, POSTGRESQL)
        ),
        _at_most("receiver's memory at its start", _memory(results, lambda it: it.start), 60, None, "MB"),
        _at_most(
            "and its growth over 1,000,000 events",
            _memory(results, lambda it: it.end - it.warm),
            10,
            None,
            "MB",
        ),
        *(bar for row in results.transfers for bar in _transfer(row)),
        *(bar for figures in results.checks for bar in _check(figures)),
        *(
            _at_most("CPU to build an event for a test", row.cpu_us, 20, None, "us")
            for row in results.built
            if row.kind == building.EVENT
        ),
        *(
            _at_most("receiver's CPU with 1% of the traces ÷ without", row.ratio, 1.03, None)
            for row in results.traced
            if row.name == tracing.SAMPLED
        ),
    ]
    return [bar for bar in every if bar is not None]


def _check(it: CheckFigures) -> tuple[Bar | None, ...]:
    on = f"on {it.entries:,} entries, {it.store}"
    return (
        _at_most(f"check of 1,000 {on}: p99", it.many.p99 * 1000, 30, None, "ms"),
        _at_most(f"check of 10,000 {on}: p99", it.most.p99 * 1000, 150, None, "ms"),
        _at_most(f"one address through the API {on}: p99", it.one.p99 * 1000, 5, None, "ms"),
        _at_least(f"addresses through the API {on}", it.per_second, 100_000, None, "a second"),
        _at_most(f"check of 1,000 ÷ the bare query {on}", it.to_bare, 1.5, None),
        _at_least(f"a request for each of 1,000 addresses ÷ one for all {on}", it.loop_ratio, 50, None),
        _at_most(f"page 1,000 of the listing ÷ page 1 {on}", it.page_ratio, 1.5, 1.0),
        _at_most(
            f"check of 1,000 on {it.longest:,} entries ÷ on 100,000, {it.store}", it.longer_ratio, 1.5, None
        ),
        _at_most(
            f"check of 1,000 through the API on {it.longest:,} entries ÷ on 100,000, {it.store}",
            it.longer_api_ratio,
            1.5,
            None,
        ),
    )


def _transfer(row: TransferRow) -> tuple[Bar | None, ...]:
    what = f"{row.command} of {row.rows:,} entries, {row.store}"
    return (
        _at_most(what, row.seconds, transfer.SECONDS, None, "s"),
        _at_most(f"{what}: memory", row.peak / _MB, transfer.BYTES / _MB, None, "MB"),
    )


def _at_most(what: str, measured: float | None, bar: float, aim: float | None, unit: str = "") -> Bar | None:
    return None if measured is None else Bar(what, measured, bar, aim, at_most=True, unit=unit)


def _at_least(what: str, measured: float | None, bar: float, aim: float | None, unit: str = "") -> Bar | None:
    return None if measured is None else Bar(what, measured, bar, aim, at_most=False, unit=unit)


def _cpu_to_noop(results: Results) -> float | None:
    middle = _middle(results, entrants.CONFIRMED)
    return middle.cpu_ratio if middle else None


def _spooled_to_noop(results: Results) -> float | None:
    middle = _middle(results, entrants.SPOOLED)
    return middle.rate_ratio if middle else None


def _rate(results: Results, other: entrants.Contender) -> float | None:
    """The median of the rounds' ratios, and not the ratio of medians: a round's noise has hit both alike."""
    ours, theirs = _rounds(results, entrants.CONFIRMED), _rounds(results, other)
    if not ours or len(ours) != len(theirs):
        return None
    pairs = zip(ours, theirs, strict=True)
    return median(mine.events_per_second / its.events_per_second for mine, its in pairs)


def _p99(results: Results) -> float | None:
    return results.answer_times.p99 * 1000 if results.answer_times else None


def _worker(results: Results, store: str) -> float | None:
    return next((row.ratio for row in results.workers if (row.name, row.store) == (WORKER, store)), None)


def _memory(results: Results, of: Callable[[Memory], int]) -> float | None:
    return of(results.memory) / _MB if results.memory else None


def _middle(results: Results, contender: entrants.Contender) -> Measurement | None:
    return next((row.median for row in results.receivers if row.name == contender.name), None)


def _rounds(results: Results, contender: entrants.Contender) -> tuple[Measurement, ...]:
    return next((row.rounds for row in results.receivers if row.name == contender.name), ())
