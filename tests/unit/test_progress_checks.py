"""What of a worker is stuck: what could get on, and does not; never what waits, nor what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from bridge.amqp.connection import LinkState
from bridge.telemetry.metrics import Metrics
from bridge.worker.progress_checks import WorkerParts, database_check, worker_checks
from bridge.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

AFTER = 300.0


class Scene:
    """A worker in the middle of its work, and the time, which is set."""

    def __init__(self) -> None:
        self.consumer = SimpleNamespace(unacknowledged=3, acknowledged=0, consuming=True)
        self.suppressor = SimpleNamespace(steps=0)
        self.address_lookup = SimpleNamespace(steps=0, waiting=0)
        self.failure_router = SimpleNamespace(steps=0, waiting=0)
        self.relay = SimpleNamespace(steps=0, busy=False)
        self.list_metrics = SimpleNamespace(counts=0, counting=False)
        self.announcements = SimpleNamespace(steps=0, quarantining=0)
        self.announcement_consumer = SimpleNamespace(unacknowledged=0, acknowledged=0)
        self.database = SimpleNamespace(available=True, oldest_call_at=None)
        self.publish = SimpleNamespace(state=LinkState.UP)
        self.consume = SimpleNamespace(attempts=1)
        parts: Any = WorkerParts(
            *cast(
                "Any",
                (
                    self.consumer,
                    self.suppressor,
                    self.address_lookup,
                    self.failure_router,
                    self.relay,
                    None,
                    self.list_metrics,
                    None,
                    self.announcements,
                    self.announcement_consumer,
                    None,
                ),
            )
        )
        database, publish, consume = cast("Any", (self.database, self.publish, self.consume))
        watched = (database_check(database), *worker_checks(parts, database, publish, consume))
        self.watch = Watchdog(watched, after=AFTER, metrics=Metrics())
        self.now = 0.0

    def pass_time(self, each: Callable[[], None] = lambda: None, *, times: int = 10) -> str:
        """A minute each; why the worker is stuck at the end, if it is."""
        for _ in range(times):
            self.watch.check(self.now)
            each()
            self.now += 60.0
        return self.watch.reason()


def test_one_message_that_gets_no_further_is_stuck() -> None:
    """However few there are: nobody waits until as many as the prefetch allows have come."""
    scene = Scene()
    scene.consumer.unacknowledged = 1
    assert "not acknowledged" in scene.pass_time()


@pytest.mark.parametrize("part", ["suppressor", "address_lookup", "failure_router"])
def test_any_step_is_progress(part: str) -> None:
    """At a few calls a second the first of 500 unknown messages has its verdict after many minutes."""
    scene = Scene()

    def step() -> None:
        getattr(scene, part).steps += 1

    assert scene.pass_time(step) == ""


@pytest.mark.parametrize("part", ["address_lookup", "failure_router"])
def test_what_waits_is_not_stuck(part: str) -> None:
    """For the rate, for the provider's breaker, for the next attempt at a queue that refuses."""
    scene = Scene()
    getattr(scene, part).waiting = 3
    assert scene.pass_time() == ""
    scene.consumer.unacknowledged = 4
    assert "not acknowledged" in scene.pass_time()


def test_nothing_is_stuck_while_rabbitmq_or_the_database_is_known_to_be_away() -> None:
    """The breaker is open, or there is no connection: that is what it waits for."""
    scene = Scene()
    scene.relay.busy = True
    scene.database.available = False
    assert scene.pass_time() == ""
    scene.database.available, scene.publish.state = True, LinkState.BLOCKED
    assert scene.pass_time() == ""
    scene.publish.state = LinkState.UP
    assert "changes" in scene.pass_time()


def test_a_relay_that_is_answered_is_not_stuck() -> None:
    """Be it by refusals; between two attempts it waits."""
    scene = Scene()
    scene.consumer.unacknowledged = 0
    scene.relay.busy = True

    def step() -> None:
        scene.relay.steps += 1

    assert scene.pass_time(step) == ""
    assert "changes" in scene.pass_time()
    scene.relay.busy = False
    assert scene.pass_time() == ""


def test_a_call_of_the_database_that_is_never_answered_is_stuck() -> None:
    """Whatever its breaker says, and however many others are answered; a long row of calls is not one call."""
    scene = Scene()
    scene.consumer.unacknowledged = 0
    scene.database.available = False

    def another() -> None:
        scene.database.oldest_call_at = scene.now

    assert scene.pass_time(another) == ""
    assert "database" in scene.pass_time()


def test_a_consumer_that_goes_on_trying_is_not_stuck() -> None:
    """RabbitMQ says each time why it cannot consume: only an attempt of which nothing comes is one."""
    scene = Scene()
    scene.consumer.consuming, scene.consumer.unacknowledged = False, 0

    def try_again() -> None:
        scene.consume.attempts += 1

    assert scene.pass_time(try_again) == ""
    assert "consume" in scene.pass_time()


def test_a_count_that_is_never_answered_is_stuck() -> None:
    """Its call goes by no breaker."""
    scene = Scene()
    scene.consumer.unacknowledged = 0
    scene.list_metrics.counting = True
    assert "counting" in scene.pass_time()
