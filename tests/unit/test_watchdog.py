"""What counts as stuck: something is due, and does not get on for as long as is allowed."""

from __future__ import annotations

from bridge.telemetry.metrics import Metrics
from bridge.worker.watchdog import ProgressCheck, Watchdog

AFTER = 300.0


class Setup:
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
    setup = Setup()
    for now in (0.0, 100.0, 299.0):
        setup.watch.check(now)
        assert setup.watch.reason() == ""
    for now in (300.0, 400.0, 1000.0):
        setup.watch.check(now)
        assert setup.watch.reason() == "no change is published"
    assert setup.counted() == 1


def test_what_gets_on_is_not_stuck() -> None:
    """However slowly, if it is within the time."""
    setup = Setup()
    for step in range(20):
        setup.progress = step
        setup.watch.check(step * 299.0)
    assert setup.watch.reason() == ""
    assert setup.counted() == 0


def test_what_waits_for_a_dependency_is_not_stuck() -> None:
    """A pause is none; the time begins when it is over."""
    setup = Setup()
    setup.due = False
    for now in (0.0, 1000.0, 2000.0):
        setup.watch.check(now)
    setup.due = True
    setup.watch.check(2299.0)
    assert setup.watch.reason() == ""
    setup.watch.check(2300.0)
    assert setup.watch.reason() != ""


def test_what_gets_on_again_is_alive_again() -> None:
    """And is counted anew when it is stuck once more."""
    setup = Setup()
    setup.watch.check(0.0)
    setup.watch.check(300.0)
    setup.progress += 1
    setup.watch.check(301.0)
    assert setup.watch.reason() == ""
    setup.watch.check(601.0)
    assert setup.watch.reason() == "no change is published"
    assert setup.counted() == 2
