"""What is counted: measured when it is read, and added up where several processes count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import values

from bridge.telemetry.metrics import Metrics, SharedMetrics, share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    ages = iter([1.0, 2.0])
    metrics.before_reading(lambda: metrics.spool_oldest_seconds.set(next(ages)))
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
    process_of(tmp_path, 1).publishes.labels("confirmed").inc()
    assert reading(shared, 'bridge_publishes_total{outcome="confirmed"}') == 5
    assert reading(shared, "bridge_spool_bytes") == 0


def test_restarts_are_among_what_is_added_up(shared: SharedMetrics) -> None:
    """They are counted where the others' deaths are seen."""
    shared.restarts.inc()
    assert reading(shared, "bridge_receiver_restarts_total") == 1


def process_of(folder: Path, number: int) -> Metrics:
    """As a process of its own would count."""
    share(folder, number)
    return Metrics()


def reading(metrics: SharedMetrics, name: str) -> float | None:
    lines = metrics.exposition().decode().splitlines()
    found = [line for line in lines if line.rpartition(" ")[0] == name]
    return float(found[0].rpartition(" ")[2]) if found else None
