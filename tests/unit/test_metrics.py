"""What is counted: measured when it is read, and added up where several processes count."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, values

from bridge.amqp.connection import Link, LinkState
from bridge.settings.sections import RabbitMQ
from bridge.telemetry import metric_definitions, metrics
from bridge.telemetry.buffered import MAX_AGE_SECONDS
from bridge.telemetry.health import Readiness, process_health
from bridge.telemetry.metric_definitions import MetricDefinitions
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.multiprocess import SharedMetrics, use_shared_files
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Counter, Gauge

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
"""Its table of metrics is the operators' word for what there is."""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMetrics]:
    """The sum over this folder; the library counts as before when the test is over."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    yield SharedMetrics(tmp_path)
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]  # it has no types


def test_what_is_measured_is_measured_anew_whenever_it_is_read() -> None:
    """Nobody has to keep a gauge up to date that nobody looks at."""
    metrics = Metrics()
    age_histogram = iter([0.0, 1.0, 2.0])
    metrics.before_scrape(lambda: metrics.spool_oldest_seconds.set(next(age_histogram)))
    assert b"\nbridge_spool_oldest_seconds 1.0\n" in metrics.exposition()
    assert b"\nbridge_spool_oldest_seconds 2.0\n" in metrics.exposition()


def test_processes_are_added_up(shared: SharedMetrics, tmp_path: Path) -> None:
    """Counters and histograms are sums; a gauge is the sum, the least or the greatest, as it means something."""
    for number, entries, age, up in ((1, 5, 8.0, 1), (2, 7, 3.0, 0)):
        process = process_of(tmp_path, number)
        process.answers.labels("confirmed").inc(number)
        process.answer_seconds.observe(0.004)
        process.spool_entries.set(entries)
        process.spool_oldest_seconds.set(age)
        process.broker_up.labels("publish").set(up)
    assert reading(shared, 'bridge_answers_total{answer="confirmed"}') == 3
    assert reading(shared, "bridge_answer_seconds_count") == 2
    assert reading(shared, 'bridge_answer_seconds_bucket{le="0.005"}') == 2
    assert reading(shared, "bridge_spool_entries") == 12
    assert reading(shared, "bridge_spool_oldest_seconds") == 8
    assert reading(shared, 'bridge_broker_up{use="publish"}') == 0


def test_a_successor_counts_on_and_measures_anew(shared: SharedMetrics, tmp_path: Path) -> None:
    """What a dead process has counted stays; what it has measured does not."""
    first = process_of(tmp_path, 1)
    first.publishes.labels("confirmed").inc(4)
    first.spool_bytes.set(100)
    shared.forget(1)
    assert reading(shared, 'bridge_publishes_total{outcome="confirmed"}') == 4
    assert reading(shared, "bridge_spool_bytes") is None
    successor = process_of(tmp_path, 1)
    successor.publishes.labels("confirmed").inc()
    successor.before_scrape(lambda: successor.spool_bytes.set(0))
    assert reading(shared, 'bridge_publishes_total{outcome="confirmed"}') == 5
    assert reading(shared, "bridge_spool_bytes") == 0


def test_several_processes_are_ready_when_all_are_and_as_old_as_the_oldest(
    shared: SharedMetrics, tmp_path: Path
) -> None:
    """An alert on the start of a role must not fire for each of its processes."""
    for number, ready in ((1, True), (2, False)):
        process = process_of(tmp_path, number)
        process.start_time.set(1000 * number)
        process_health(process, partial(Readiness, ready=ready, parts={}))
    assert reading(shared, "bridge_ready") == 0
    assert reading(shared, "bridge_start_time_seconds") == 1000


async def test_whether_a_role_is_ready_is_measured_at_each_scrape() -> None:
    """As `/readyz` says it at that moment."""
    answers = iter([False, False, True])
    _, exposition = process_health(Metrics(), lambda: Readiness(ready=next(answers), parts={}))
    assert b"\nbridge_ready 0.0\n" in await exposition()
    assert b"\nbridge_ready 1.0\n" in await exposition()


def test_restarts_are_among_what_is_added_up(shared: SharedMetrics) -> None:
    """They are counted where the others' deaths are seen."""
    shared.restarts.inc()
    assert reading(shared, "bridge_receiver_restarts_total") == 1


async def test_what_is_counted_cheaply_is_in_the_files_within_a_second_and_at_the_end(
    shared: SharedMetrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a process that is killed takes no more than that with it, and one that stops in order nothing."""
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", 0.01)
    process = process_of(tmp_path, 1)
    tally = process.buffered_counter(process.publishes.labels("confirmed"))
    age_histogram = process.age_histogram(metric_definitions.CONFIRMED)
    async with metrics.flushed_every_second(process):
        tally.count += 3
        age_histogram.observe(4)
        await eventually(lambda: reading(shared, 'bridge_publishes_total{outcome="confirmed"}') == 3)
        assert reading(shared, 'bridge_event_age_seconds_bucket{le="5.0",stage="confirmed"}') == 1
        await asyncio.sleep(0)
        tally.count += 4
    assert reading(shared, 'bridge_publishes_total{outcome="confirmed"}') == 7


@given(st.lists(st.floats(min_value=0, max_value=20) | st.sampled_from(metric_definitions.FAST_BUCKETS)))
def test_a_spread_counts_as_the_library_does(seconds: list[float]) -> None:
    """The same buckets, also for a value on a bound, and the same sum; it is there whenever the values are read."""
    ours, theirs = Metrics(), CollectorRegistry()
    buffered_histogram = ours.buffered_histogram(ours.confirm_seconds, metric_definitions.FAST_BUCKETS)
    library = Histogram(
        "bridge_confirm_seconds", "", buckets=metric_definitions.FAST_BUCKETS, registry=theirs
    )
    for one in seconds:
        buffered_histogram.observe(one)
        library.observe(one)
    for sample in next(iter(library.collect())).samples:
        if not sample.name.endswith("_created"):
            counted = ours.registry.get_sample_value(sample.name, sample.labels)
            assert counted == pytest.approx(sample.value)


def test_a_histogram_that_nobody_reads_keeps_few_values() -> None:
    """Of many only their buckets and their sum, and none is counted twice or not at all."""
    made = Metrics()
    histogram = made.buffered_histogram(made.answer_seconds, metric_definitions.FAST_BUCKETS)
    for _ in range(2500):
        histogram.observe(0.5)
        assert len(histogram._values) < 1000
    assert made.registry.get_sample_value("bridge_answer_seconds_count") == 2500
    assert made.registry.get_sample_value("bridge_answer_seconds_sum") == 1250
    assert made.registry.get_sample_value("bridge_answer_seconds_bucket", {"le": "0.5"}) == 2500


def test_reading_twice_counts_once() -> None:
    """What was handed over is not handed over again."""
    made = Metrics()
    tally, buffered_histogram = (
        made.buffered_counter(made.answers.labels("200")),
        made.buffered_histogram(made.answer_seconds, metric_definitions.FAST_BUCKETS),
    )
    tally.count += 2
    buffered_histogram.observe(0.1)
    for _ in range(2):
        assert made.registry.get_sample_value("bridge_answers_total", {"answer": "200"}) == 2
        assert made.registry.get_sample_value("bridge_answer_seconds_count") == 1


def test_a_mad_time_does_not_break_the_sum_of_the_ages() -> None:
    """What lies in the future is 0 old, and what is from 1970 is not older than the oldest that can be told."""
    made = Metrics()
    age_histogram = made.age_histogram(metric_definitions.RECEIVED)
    for age in (-3600.0, 2.0, 1.7e9):
        age_histogram.observe(age)
    value, stage = made.registry.get_sample_value, {"stage": "received"}
    assert value("bridge_event_age_seconds_sum", stage) == 2.0 + MAX_AGE_SECONDS
    assert value("bridge_event_age_seconds_bucket", stage | {"le": "1.0"}) == 1
    assert value("bridge_event_age_seconds_bucket", stage | {"le": "604800.0"}) == 2
    assert value("bridge_event_age_seconds_count", stage) == 3


def test_a_role_shows_only_what_it_counts() -> None:
    """A worker that said of its spool that nothing is in it would say more than it knows."""
    made = Metrics()
    made.unacknowledged_messages.set(0)
    text = made.exposition().decode()
    assert "bridge_unacknowledged_messages 0.0" in text
    assert "bridge_spool" not in text


async def test_a_blocked_connection_is_neither_up_nor_down() -> None:
    """An alarm of RabbitMQ is not a broker that is away: another person has to look."""
    made = Metrics()
    link = Link(RabbitMQ(), use="publish", metrics=made)

    def states() -> dict[str, float | None]:
        return {
            state: made.registry.get_sample_value(
                "bridge_broker_state", {"use": "publish", "state": state.value}
            )
            for state in LinkState
        }

    assert states() == {"down": 1, "up": 0, "blocked": 0}
    link.opened()
    assert states() == {"down": 0, "up": 1, "blocked": 0}
    link._on_blocked("memory")
    assert states() == {"down": 0, "up": 0, "blocked": 1}
    assert made.registry.get_sample_value("bridge_broker_up", {"use": "publish"}) == 0


def test_the_version_that_runs_is_a_metric() -> None:
    """Also where several processes are one receiver: once."""
    [line] = [
        line for line in Metrics().exposition().decode().splitlines() if line.startswith("bridge_build")
    ]
    assert re.fullmatch(r'bridge_build_info\{python="3[.0-9]+",version="[0-9].+"\} 1\.0', line)


class Row(NamedTuple):
    """A metric, as the page of the metrics has it."""

    name: str
    kind: str
    labels: frozenset[str]


def test_the_docs_have_every_metric_and_no_other(tmp_path: Path) -> None:
    """By the name that Prometheus shows, with its type and its labels."""
    everything = MetricDefinitions(CollectorRegistry())
    made = [getattr(everything, name) for name in everything.names()]
    assert set(map(_row_of, [*made, SharedMetrics(tmp_path).restarts])) == set(_table())


def _table() -> list[Row]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `bridge_")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        Row(name.strip("`"), kind, frozenset(re.findall(r"`([a-z]+)`", labels)))
        for name, kind, _, labels, _ in cells
    ]


def _row_of(made: Counter | Gauge | Histogram) -> Row:
    name = f"{made._name}_total" if made._type == "counter" else made._name
    return Row(name, made._type, frozenset(made._labelnames))


def process_of(folder: Path, number: int) -> Metrics:
    """As a process of its own would count."""
    use_shared_files(folder, number)
    return Metrics()


def reading(metrics: SharedMetrics, name: str) -> float | None:
    lines = metrics.exposition().decode().splitlines()
    found = [line for line in lines if line.rpartition(" ")[0] == name]
    return float(found[0].rpartition(" ")[2]) if found else None
