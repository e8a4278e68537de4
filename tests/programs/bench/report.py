"""What was measured as tables: for the terminal, and as Markdown for the README."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.programs.bench.entrants import CONFIRMED
from tests.programs.bench.fan_out import RATE as FAN_OUT_RATE
from tests.programs.bench.longer import RATE
from tests.programs.bench.results import bars
from tests.programs.bench.tables import Line, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.programs.bench.building import BuildingRow
    from tests.programs.bench.checking import CheckFigures
    from tests.programs.bench.fan_out import FanOutRow
    from tests.programs.bench.growth_curves import Curve
    from tests.programs.bench.longer import AnswerTimes, Memory
    from tests.programs.bench.results import Bar, Results
    from tests.programs.bench.scaling import ScalingRow
    from tests.programs.bench.throughput import Row
    from tests.programs.bench.tracing import TracingRow
    from tests.programs.bench.transfer import TransferRow
    from tests.programs.bench.working import WorkerRow

_MIB: Final = 1024**2
_MB: Final = 1e6
_NONE: Final = "-"


def tables(results: Results) -> list[Table]:
    """All that this run has measured; what it has not is not there."""
    found = []
    if results.receivers or results.skipped:
        found.append(_receivers(results.receivers, results.skipped))
    if results.answer_times is not None:
        found.append(_answer_times(results.answer_times))
    if results.memory is not None:
        found.append(_memory(results.memory))
    found += [table for table in _of_rows(results) if table.lines]
    found += growth_tables(results.growth)
    if lines := tuple(map(_bar, bars(results))):
        found.append(Table("The bar", ("what", "measured", "bar", "aim", "holds"), lines))
    return found


def _of_rows(results: Results) -> tuple[Table, ...]:
    return (
        _fan_out(results.fan_out),
        _workers(results.workers),
        _scaling(results.scaling),
        _transfers(results.transfers),
        _checks(results.checks),
        _built(results.built),
        _traced(results.traced),
    )


def growth_tables(curves: Sequence[Curve]) -> list[Table]:
    """What things cost against their size: a table for each thing that grows."""
    return [
        _growth(part, [one for one in curves if one.part == part])
        for part in dict.fromkeys(one.part for one in curves)
    ]


def _growth(part: str, curves: Sequence[Curve]) -> Table:
    sizes = [f"{point.size:,}" for point in curves[0].points]
    return Table(
        f"Cost against size: {part}",
        ("what", "unit", *sizes, "last ÷ first", "bends upward"),
        tuple(
            Line(
                (
                    one.what,
                    one.unit,
                    *(f"{point.cost:,.1f}" for point in one.points),
                    _ratio(one.ratios[-1]),
                    "YES" if one.bends else "no",
                )
            )
            for one in curves
        ),
    )


def growth_markdown(results: Results) -> str:
    """What `docs/capacity.md` shows."""
    return "\n".join([f"{results.about}\n", *(table.markdown() for table in growth_tables(results.growth))])


def markdown(results: Results) -> str:
    """What the README shows."""
    errors = [f"Not measured: {error}\n" for error in results.errors]
    shown = tables(replace(results, growth=()))
    return "\n".join([f"{results.about}\n", *(table.markdown() for table in shown), *errors])


def _receivers(rows: Sequence[Row], skipped: Mapping[str, str]) -> Table:
    columns = (
        "receiver", "events/s", "p50", "p99", "CPU per event", "CPU ÷ no-op", "events/s ÷ no-op",
        "broker's CPU per event", "peak memory", "errors",
    )  # fmt: skip
    left_out = (
        Line((name, *[_NONE] * (len(columns) - 2), f"skipped: {why}")) for name, why in skipped.items()
    )
    return Table("Receivers, as fast as they are answered", columns, (*map(_receiver, rows), *left_out))


def _receiver(row: Row) -> Line:
    it = row.median
    errors = "; ".join(row.errors) or "none"
    if it is None:
        return Line((row.name, *[_NONE] * 8, errors), good=False)
    return Line(
        (
            row.name,
            f"{it.events_per_second:,.0f}",
            _ms(it.p50),
            _ms(it.p99),
            _us(it.cpu),
            _ratio(it.cpu_ratio),
            _ratio(it.rate_ratio),
            _us(it.broker_cpu),
            f"{it.peak / _MIB:.1f} MiB",
            errors,
        ),
        good=not row.errors,
    )


def _answer_times(it: AnswerTimes) -> Table:
    return Table(
        f"Answer times at a constant {RATE:,} events/s, open loop, broker up",
        ("receiver", "p50", "p99", "worst", "worst of all rounds", "errors"),
        (
            Line(
                (
                    CONFIRMED.name,
                    _ms(it.p50),
                    _ms(it.p99),
                    _ms(it.worst),
                    _ms(it.worst_of_all),
                    "; ".join(it.errors) or "none",
                ),
                good=not it.errors,
            ),
        ),
    )


def _memory(it: Memory) -> Table:
    return Table(
        "Memory of the receiver (resident)",
        (
            "receiver",
            "start",
            f"after {it.warm_up:,} events",
            f"after {it.events:,} more",
            "growth",
            "errors",
        ),
        (
            Line(
                (
                    CONFIRMED.name,
                    _mb(it.start),
                    _mb(it.warm),
                    _mb(it.end),
                    f"{(it.end - it.warm) / _MB:+.1f} MB; since its start {(it.end - it.start) / _MB:+.1f} MB",
                    "; ".join(it.errors) or "none",
                ),
                good=not it.errors,
            ),
        ),
    )


def _fan_out(rows: Sequence[FanOutRow]) -> Table:
    return Table(
        f"Queues of other services, each bound to every event: {FAN_OUT_RATE} events/s, open loop",
        ("subscribers", "p50", "p99", "worst of all rounds", "broker's CPU per event", "÷ none", "errors"),
        tuple(
            Line(
                (
                    str(row.subscribers),
                    *(_ms(seconds) for seconds in (row.p50, row.p99, row.worst)),
                    _us(row.broker_cpu),
                    _ratio(row.ratio),
                    "; ".join(row.errors) or "none",
                ),
                good=not row.errors,
            )
            for row in rows
        ),
    )


def _workers(rows: Sequence[WorkerRow]) -> Table:
    return Table(
        "Workers, on a queue that is full",
        ("worker", "store", "events/s", "CPU per event", "events/s ÷ per-message loop"),
        tuple(
            Line(
                (
                    row.name,
                    row.store,
                    f"{row.events_per_second:,.0f}",
                    f"{row.cpu_us:.0f} us",
                    _ratio(row.ratio),
                )
            )
            for row in rows
        ),
    )


def _transfers(rows: Sequence[TransferRow]) -> Table:
    return Table(
        "The list from a file and into one, by `bridge suppressions import` and `export`",
        ("command", "store", "entries", "time", "CPU of the command", "peak memory"),
        tuple(
            Line(
                (
                    row.command,
                    row.store,
                    f"{row.rows:,}",
                    f"{row.seconds:.1f} s",
                    f"{row.cpu:.1f} s",
                    f"{row.peak / _MB:.0f} MB",
                )
            )
            for row in rows
        ),
    )


def _checks(rows: Sequence[CheckFigures]) -> Table:
    return Table(
        "The list asked by senders: checks of the store (p50 and p99), through `bridge api`, and pages",
        (
            "store", "entries", "1,000 addresses", "10,000 addresses", "÷ bare query", "one, API",
            "addresses/s, API", "a request each ÷ one for all", "page 1,000 ÷ page 1", "longest list",
            "÷ 100,000 entries", "the same, API",
        ),
        tuple(
            Line(
                (
                    row.store,
                    f"{row.entries:,}",
                    *(f"{_ms(times.p50)}, {_ms(times.p99)}" for times in (row.many, row.most)),
                    _ratio(row.to_bare),
                    f"{_ms(row.one.p50)}, {_ms(row.one.p99)}",
                    f"{row.per_second:,.0f}",
                    _ratio(row.loop_ratio),
                    _ratio(row.page_ratio),
                    f"{row.longest:,}",
                    _ratio(row.longer_ratio),
                    _ratio(row.longer_api_ratio),
                )
            )
            for row in rows
        ),
    )  # fmt: skip


def _scaling(rows: Sequence[ScalingRow]) -> Table:
    return Table(
        "Several workers, on one queue that is full and one PostgreSQL",
        ("workers", "events/s", "CPU per event", "events/s ÷ one worker"),
        tuple(
            Line(
                (
                    str(row.processes),
                    f"{row.events_per_second:,.0f}",
                    f"{row.cpu_us:.0f} us",
                    _ratio(row.ratio),
                )
            )
            for row in rows
        ),
    )


def _built(rows: Sequence[BuildingRow]) -> Table:
    return Table(
        "Messages for the tests of consumers, made by `bridge.testing`",
        ("message", "CPU"),
        tuple(Line((row.kind, f"{row.cpu_us:.1f} us")) for row in rows),
    )


def _traced(rows: Sequence[TracingRow]) -> Table:
    return Table(
        "Traces, the same receiver with and without, in turn",
        ("receiver", "CPU per event", "CPU ÷ off", "errors"),
        tuple(
            Line(
                (row.name, _us(row.cpu), f"{row.ratio:.3f}", "; ".join(row.errors) or "none"),
                good=not row.errors,
            )
            for row in rows
        ),
    )


def _bar(bar: Bar) -> Line:
    sign = "≤" if bar.at_most else "≥"
    unit = f" {bar.unit}" if bar.unit else ""
    digits = 1 if bar.unit else 2
    return Line(
        (
            bar.what,
            f"{bar.measured:.{digits}f}{unit}",
            f"{sign} {bar.bar:g}{unit}",
            _NONE if bar.aim is None else f"{bar.aim:g}{unit}",
            "yes" if bar.holds else "NO",
        ),
        good=bar.holds,
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


def _mb(count: int) -> str:
    return f"{count / _MB:.1f} MB"


def _ratio(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"
