"""The simulation behind docs/capacity.md says what queueing theory says, where that has a formula."""

from __future__ import annotations

from statistics import mean

import pytest

from tests.programs.capacity import queueing, simulation
from tests.programs.capacity.simulation import Arrivals, Workers

BUSY = 0.5


@pytest.mark.parametrize(
    ("arrivals", "workers", "expected"),
    [
        (Arrivals(BUSY), Workers(1.0, spread="exponential"), queueing.mm1_wait(BUSY, 1)),
        (Arrivals(BUSY), Workers(1.0), queueing.md1_wait(BUSY, 1)),
        (Arrivals(BUSY, burst=5), Workers(1.0), queueing.bursts_wait(BUSY, 1, 5)),
        (
            Arrivals(3 * BUSY),
            Workers(1.0, processes=3, spread="exponential"),
            queueing.mmc_wait(3 * BUSY, 1, 3),
        ),
    ],
    ids=["random services", "equal services", "bursts", "three workers"],
)
def test_events_wait_as_long_as_the_formula_says(
    arrivals: Arrivals, workers: Workers, expected: float
) -> None:
    """And as many wait as Little's law says: those that arrive in the time of a wait."""
    queue = simulation.run_queue(arrivals, workers, seconds=15_000, seed=1)
    waited = mean(queue.waits)
    assert waited == pytest.approx(expected, rel=0.1)
    assert queue.mean_length() == pytest.approx(arrivals.rate * waited, rel=0.05)
    assert queue.busy_seconds / 15_000 == pytest.approx(BUSY * workers.processes, rel=0.05)


def test_a_worker_takes_larger_batches_when_it_is_busy() -> None:
    """So it handles more than with one event in a batch, and never more than it can."""
    workers = Workers(0.001, batch=100, batch_seconds=0.01)
    assert workers.rate == pytest.approx(100 / 0.11)
    calm, busy = (
        simulation.run_queue(Arrivals(share * workers.rate), workers, seconds=10, seed=2)
        for share in (0.1, 0.9)
    )
    assert len(calm.waits) / calm.batches < 3
    assert len(busy.waits) / busy.batches > 20
    flooded = simulation.run_queue(Arrivals(3 * workers.rate), workers, seconds=3, seed=2)
    assert len(flooded.waits) / 3 == pytest.approx(workers.rate, rel=0.05)
    assert flooded.longest > workers.rate


@pytest.mark.parametrize(
    ("broker", "drain", "takes"), [(40.0, 1_000.0, 40.0), (400.0, 30.0, 40.0)], ids=["RabbitMQ", "the drain"]
)
def test_a_spool_is_drained_in_backlog_through_what_is_left(
    broker: float, drain: float, takes: float
) -> None:
    """Beside the live traffic, which goes first: by what RabbitMQ takes beyond it, or by what the drain can."""
    found = simulation.run_outage(
        Arrivals(10.0), broker_rate=broker, drain_rate=drain, away_seconds=100, seed=3
    )
    assert found.spooled == found.most == pytest.approx(1_000, rel=0.1)
    assert found.drain_seconds == pytest.approx(queueing.drain_seconds(found.most, 10, takes), rel=0.1)
    assert found.arrived - found.published < 10


def test_what_is_never_drained_is_said() -> None:
    """A queue that gets as much as it handles, or more, grows for ever."""
    for formula in (queueing.mm1_wait, queueing.md1_wait):
        with pytest.raises(ValueError, match="grows for ever"):
            formula(2, 2)
    with pytest.raises(ValueError, match="RabbitMQ takes 5"):
        simulation.run_outage(Arrivals(5.0), broker_rate=5.0, drain_rate=9.0, away_seconds=1, seed=1)


def test_the_same_seed_gives_the_same_run() -> None:
    """On every machine."""
    runs = [simulation.run_queue(Arrivals(1.0), Workers(0.5), seconds=200, seed=seed) for seed in (4, 4, 5)]
    assert runs[0].waits == runs[1].waits
    assert runs[0].waits != runs[2].waits
