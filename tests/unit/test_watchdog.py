"""What counts as stuck: something is due, and does not get on for as long as is allowed."""

from __future__ import annotations

from bridge.telemetry.metrics import Metrics
from bridge.worker.watchdog import ProgressCheck, Watchdog

AFTER = 300.0


class Bench:
    def __init__(self) -> None:
        self.due = True
        self.progress = 0
        self.metrics = Metrics()
        watched = ProgressCheck("relay", "no change is published", lambda: self.due, lambda: self.progress)
        self.watch = Watchdog([watched], after=AFTER, metrics=self.metrics)

    def counted(self) -> float | None:
        """0 from the beginning: from nothing to 1 Prometheus sees no increase."""
        return self.metrics.registry.get_sample_value("bridge_worker_stuck_total", {"component": "relay"})


def test_what_is_due_and_gets_nowhere_is_stuck_when_its_time_is_over() -> None:
    """Not a moment before; it is counted once, and the reason is told."""
    bench = Bench()
    for now in (0.0, 100.0, 299.0):
        bench.watch.check(now)
        assert bench.watch.reason() == ""
    for now in (300.0, 400.0, 1000.0):
        bench.watch.check(now)
        assert bench.watch.reason() == "no change is published"
    assert bench.counted() == 1


def test_what_gets_on_is_not_stuck() -> None:
    """However slowly, if it is within the time."""
    bench = Bench()
    for step in range(20):
        bench.progress = step
        bench.watch.check(step * 299.0)
    assert bench.watch.reason() == ""
    assert bench.counted() == 0


def test_what_waits_for_a_dependency_is_not_stuck() -> None:
    """A pause is none; the time begins when it is over."""
    bench = Bench()
    bench.due = False
    for now in (0.0, 1000.0, 2000.0):
        bench.watch.check(now)
    bench.due = True
    bench.watch.check(2299.0)
    assert bench.watch.reason() == ""
    bench.watch.check(2300.0)
    assert bench.watch.reason() != ""


def test_what_gets_on_again_is_alive_again() -> None:
    """And is counted anew when it is stuck once more."""
    bench = Bench()
    bench.watch.check(0.0)
    bench.watch.check(300.0)
    bench.progress += 1
    bench.watch.check(301.0)
    assert bench.watch.reason() == ""
    bench.watch.check(601.0)
    assert bench.watch.reason() == "no change is published"
    assert bench.counted() == 2
