"""Rates of the roles' counters between two looks, and the ages of events, as `status` and the console show them."""

from __future__ import annotations

import pytest

from bridge.diagnostics.counter_rates import CounterRates, event_age
from bridge.diagnostics.role_status import RoleStatus
from tests.support.clock import Clock

NAME = "bridge_events_received_total"


def receiver(port: int, problem: str = "", **totals: float) -> RoleStatus:
    return RoleStatus(f"http://127.0.0.1:{port}", problem, kind="receiver", counts={NAME: totals})


def test_the_first_look_knows_no_rate() -> None:
    """What was counted before it may be of any time."""
    assert CounterRates(NAME).read([receiver(1, opened=1000)]) is None


def test_rates_are_a_second_and_summed_over_roles() -> None:
    """Two receivers count one name."""
    clock = Clock(1000)
    rates = CounterRates(NAME, clock)
    rates.read([receiver(1, opened=10), receiver(2, opened=100)])
    clock.now += 5
    assert rates.read([receiver(1, opened=20, clicked=5), receiver(2, opened=100)]) == {
        "opened": 2.0,
        "clicked": 1.0,
    }


def test_a_restart_of_one_role_is_no_peak() -> None:
    """Its counter begins anew; that of the other goes on."""
    clock = Clock(1000)
    rates = CounterRates(NAME, clock)
    rates.read([receiver(1, opened=1000), receiver(2, opened=50)])
    clock.now += 5
    assert rates.read([receiver(1, opened=10), receiver(2, opened=50)]) == {"opened": 2.0}


def test_what_was_counted_while_a_role_was_not_seen_is_spread_over_that_time() -> None:
    """A role that appears anew is not compared; one that was silent is compared with what it said last."""
    clock = Clock(1000)
    rates = CounterRates(NAME, clock)
    rates.read([receiver(1, opened=0)])
    clock.now += 5
    assert rates.read([receiver(1, "no answer"), receiver(2, opened=9000)]) is None
    clock.now += 15
    assert rates.read([receiver(1, opened=40), receiver(2, opened=9000)]) == {"opened": 2.0}


@pytest.mark.parametrize(
    ("buckets", "median", "most"),
    [
        ({"1.0": 10.0, "2.0": 10.0, "+Inf": 10.0}, 0.5, 0.95),
        ({"1.0": 0.0, "2.0": 5.0, "10.0": 10.0, "+Inf": 10.0}, 2.0, 9.2),
        ({"1.0": 0.0, "2.0": 0.0, "+Inf": 3.0}, 2.0, 2.0),
    ],
    ids=["within the first bucket", "over two buckets", "beyond the last bound"],
)
def test_ages_are_those_that_prometheus_would_say(
    buckets: dict[str, float], median: float, most: float
) -> None:
    """Interpolated within a bucket."""
    age = event_age(buckets)
    assert age is not None
    assert [age.median, age.most, age.rate] == pytest.approx([median, most, buckets["+Inf"]])


def test_without_events_there_is_no_age() -> None:
    """Neither where no worker was asked, nor where none was handled."""
    assert event_age({}) is None
    assert event_age({"1.0": 0.0, "+Inf": 0.0}) is None
