"""What a load takes: the formulas of docs/capacity.md, with numbers that can be checked in one's head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.programs.capacity import figures, model, tables
from tests.programs.capacity.figures import Costs, Limits
from tests.programs.capacity.model import DAY, Load

COSTS = Costs(
    receiver_us=100, spooled_us=80, broker_us=100, worker_us=500, database_us=200, archived_bytes=500,
    listed_bytes=1_000, wal_bytes=10_000, copy_us=50, drain_rate=3_000,
)  # fmt: skip
LIMITS = Limits(queue_rate=10_000, lookups=10, utilisation=0.5)
LOAD = Load(1_000 * DAY, peak=10, suppressing=0.02, copies=2, outage_seconds=60)
"""1,000 events a second, 10,000 at the peak."""


def test_the_cores_are_those_of_the_peak() -> None:
    """10,000 events of 100 us are one core; at half a core of each process that takes two."""
    plan = model.plan(LOAD, COSTS, LIMITS)
    assert (plan.mean, plan.at_peak) == pytest.approx((1_000, 10_000))
    assert plan.receiver_cores == pytest.approx(1.0)
    assert plan.receivers == 2
    assert plan.worker_cores == pytest.approx(0.1)
    assert plan.workers == 2
    assert plan.broker_cores == pytest.approx(2.0)
    assert plan.database_cores == pytest.approx(0.04)


def test_more_than_a_queue_takes_needs_another_cluster() -> None:
    """The nodes of each have only its share of the events."""
    one, two = (model.plan(replace(LOAD, peak=peak), COSTS, LIMITS) for peak in (10, 10.5))
    assert (one.clusters, two.clusters) == (1, 2)
    assert two.broker_cores == pytest.approx(one.broker_cores * 1.05 / 2)


def test_what_the_rate_of_the_provider_does_not_allow_has_to_be_announced() -> None:
    """20 look-ups a second at a rate of 10: half. With none, or so few, nothing has to be."""
    plan = model.plan(LOAD, COSTS, LIMITS)
    assert plan.lookups_a_day == pytest.approx(20 * DAY)
    assert plan.announced_needed == pytest.approx(0.5)
    assert plan.announced_rows == pytest.approx(1_000 * DAY / 1.6 / 2 * 90)
    announced = model.plan(replace(LOAD, announced=0.75), COSTS, LIMITS)
    assert announced.lookup_rate == pytest.approx(5)
    for suppressing in (0.0, 0.01):
        few = model.plan(replace(LOAD, suppressing=suppressing), COSTS, LIMITS)
        assert (few.announced_needed, few.announced_rows) == (0, 0)


def test_space_grows_with_the_days() -> None:
    """The archive keeps all events, the list those that change it."""
    plan = model.plan(LOAD, COSTS, LIMITS)
    assert plan.archive_bytes == pytest.approx(1_000 * DAY * 7 * 500)
    assert plan.list_bytes_a_day == pytest.approx(20 * DAY * 1_000)
    assert plan.list_bytes == pytest.approx(400 * plan.list_bytes_a_day)
    assert plan.wal_bytes_a_day == pytest.approx(20 * DAY * 10_000)


def test_the_spools_are_drained_by_whatever_is_slower() -> None:
    """Two drains of 3,000 a second; or what RabbitMQ takes beyond the live traffic."""
    plan = model.plan(LOAD, COSTS, LIMITS)
    assert plan.spool_entries == pytest.approx(600_000)
    assert plan.spool_drain_seconds == pytest.approx(600_000 / 6_000)
    fast = replace(COSTS, drain_rate=1_000_000)
    assert model.plan(LOAD, fast, LIMITS).spool_drain_seconds == pytest.approx(600_000 / 9_000)


def test_the_figures_are_read_out_of_the_tables_of_the_benchmark() -> None:
    """Each is there, and of the size that it can have; a table that is missing is named."""
    costs = figures.measured()
    assert 10 < costs.receiver_us < 1_000
    assert 10 < costs.broker_us < 1_000
    assert 50 < costs.worker_us < 5_000
    assert 100 < costs.archived_bytes < 5_000
    assert 100 < costs.listed_bytes < 10_000
    with pytest.raises(LookupError, match="no table of nothing"):
        figures._table("", "nothing")
    with pytest.raises(LookupError, match="no row of nothing"):
        figures._cells("| something | 1 |", "nothing")


def test_sizes_and_times_are_written_for_people() -> None:
    """In the unit that fits."""
    assert [tables.size(count) for count in (5e5, 2e6, 3.5e9, 7e12)] == [
        "0.5 MB",
        "2.0 MB",
        "3.5 GB",
        "7.0 TB",
    ]
    assert [tables.duration(seconds) for seconds in (12, 90, 5400)] == ["12 s", "2 min", "1.5 h"]
