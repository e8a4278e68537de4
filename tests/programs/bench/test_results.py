"""What a run says of the bar, and how it shows what went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.programs.bench import entrants, report
from tests.programs.bench.building import BuildingRow
from tests.programs.bench.checking import CheckFigures, Times
from tests.programs.bench.longer import Memory
from tests.programs.bench.results import Results, bars
from tests.programs.bench.throughput import Measurement, Row, of_another_kind
from tests.programs.bench.tracing import AGAIN, ALL, OFF, SAMPLED, TracingRow
from tests.programs.bench.working import LOOP, WORKER, WorkerRow

if TYPE_CHECKING:
    from tests.programs.bench.entrants import Contender

NOTHING: Final = Results("here", (), {}, None, None, (), (), ())
ONE: Final = Measurement(1000.0, 0.001, 0.002, 40e-6, 40e-6, 50 * 1024**2, cpu_ratio=1.1, rate_ratio=0.7)


def test_a_rate_is_compared_round_by_round() -> None:
    """In each round it is three times the other's; what the machine did in between does not count."""
    ours, theirs = (3000.0, 300.0, 3600.0), (1000.0, 100.0, 1200.0)
    results = replace(NOTHING, receivers=(row(entrants.CONFIRMED, ours), row(entrants.NAIVE, theirs)))
    bar = next(bar for bar in bars(results) if "naive" in bar.what)
    assert bar.measured == pytest.approx(3.0)
    assert bar.holds


def test_a_bar_is_missed_on_its_own_side() -> None:
    """CPU and memory may be at most so much, rates must be at least so much."""
    results = replace(
        NOTHING,
        receivers=(row(entrants.CONFIRMED, (1000.0,)), row(entrants.NAIVE, (1000.0,))),
        memory=Memory(50_000_000, 51_000_000, 20_000, 70_000_000, 1_000_000, ()),
        workers=(
            WorkerRow(WORKER, "SQLite", 4000.0, 100.0, 4.5),
            WorkerRow(LOOP, "SQLite", 900.0, 900.0, 1.0),
        ),
    )
    held = {bar.what: bar.holds for bar in bars(results)}
    assert held == {
        "receiver's CPU per confirmed event ÷ no-op": True,
        "confirmed events/s ÷ naive aio-pika": False,
        "worker's events/s ÷ per-message loop, SQLite": True,
        "receiver's memory at its start": True,
        "and its growth over 1,000,000 events": False,
    }


def test_an_event_for_a_test_has_a_bar_and_other_messages_are_shown() -> None:
    """The price of a consumer's test is that of its events."""
    results = replace(NOTHING, built=(BuildingRow("event", 5.4), BuildingRow("dead letter", 41.5)))
    assert [(bar.measured, bar.bar, bar.holds) for bar in bars(results)] == [(5.4, 20, True)]
    assert "| dead letter | 41.5 us |" in report.markdown(results)


def test_checks_have_a_bar_for_each_figure_that_there_is() -> None:
    """In milliseconds where they are times; what was not compared on a store has none. All are in the table."""
    figures = CheckFigures(
        "SQLite", 1_000_000, Times(0.004, 0.029), Times(0.04, 0.2), None, Times(0.001, 0.004), 170_000.0, None,
        1.0, 10_000_000, 1.6, 1.4,
    )  # fmt: skip
    results = replace(NOTHING, checks=(figures,))
    assert [bar.holds for bar in bars(results)] == [True, False, True, True, True, False, True]
    assert "| 4.0 ms, 29.0 ms | 40.0 ms, 200.0 ms | - |" in report.markdown(results)
    assert "| ≥ 100000 a second | - | yes |" in report.markdown(results)


def test_traces_have_a_bar_at_one_percent() -> None:
    """The others are shown: how far two that do the same differ, and what it costs to record everything."""
    rows = [
        TracingRow(name, 50e-6, ratio, ())
        for name, ratio in {OFF: 1.0, AGAIN: 0.997, SAMPLED: 1.031, ALL: 2.5}.items()
    ]
    results = replace(NOTHING, traced=tuple(rows))
    assert [(bar.measured, bar.bar, bar.holds) for bar in bars(results)] == [(1.031, 1.03, False)]
    assert "| off, another process | 50.0 us | 0.997 | none |" in report.markdown(results)


def test_what_was_not_measured_has_no_bar() -> None:
    """Nothing is said of it, neither yes nor no; a contender that is not there is named."""
    results = replace(NOTHING, skipped={"Fastify": "there is no Node here"})
    assert bars(results) == []
    assert results.good
    assert "there is no Node here" in report.markdown(results)


def test_an_error_is_shown_and_spoils_the_run() -> None:
    """In the row, in the Markdown, and in the exit code; so is a contender of which nothing was measured."""
    failed = Row("Fastify", None, (), ("it does not answer",))
    wrong = replace(row(entrants.NOOP, (1000.0,)), errors=("12 not 2xx",))
    for one in (failed, wrong):
        results = replace(NOTHING, receivers=(one,))
        assert not results.good
        assert one.errors[0] in report.markdown(results)


def test_answers_of_another_durability_are_another_measurement() -> None:
    """A few that took the spool are no error, more are; those from before do not count."""
    before = {"confirmed": 5, "spooled": 400}
    assert list(of_another_kind(before, {"confirmed": 1005, "spooled": 405}, "confirmed")) == []
    assert list(of_another_kind(before, {"confirmed": 1005, "spooled": 500}, "confirmed")) == [
        "100 of 1,100 answers were not `confirmed`"
    ]


def row(contender: Contender, rates: tuple[float, ...]) -> Row:
    rounds = tuple(replace(ONE, events_per_second=rate) for rate in rates)
    return Row(contender.name, rounds[0], rounds)
