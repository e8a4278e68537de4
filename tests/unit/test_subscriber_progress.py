"""What looks at a subscriber's queue say of its age and of its idleness; the clock is the test's."""

from __future__ import annotations

import pytest

from bridge.worker.subscriber_progress import QueueLook, SubscriberProgress
from bridge.worker.subscriber_watch import LOOK_EVERY_SECONDS


class Looks:
    """One queue, looked at each 15 s."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.progress = SubscriberProgress(lambda: self.now)

    def add(
        self,
        ready: int,
        *,
        consumers: int = 1,
        dead: int = 0,
        unacknowledged: int | None = 0,
        published: int | None = None,
        consumed: int | None = None,
        times: int = 1,
    ) -> None:
        """Without `published` and `consumed` as where there is no management API."""
        held = None if published is None else unacknowledged
        for _ in range(times):
            self.now += LOOK_EVERY_SECONDS
            self.progress.add(QueueLook(ready, consumers, dead, held, published, consumed))

    @property
    def age(self) -> float | None:
        return self.progress.oldest_age_seconds

    @property
    def idle(self) -> float:
        return self.progress.idle_seconds


def test_an_empty_queue_is_neither_old_nor_idle() -> None:
    """However long it is empty."""
    looks = Looks()
    looks.add(0, times=100)
    assert (looks.age, looks.idle) == (0, 0)


def test_nobody_consumes() -> None:
    """Both grow from the look before the first message came, also without the management API, and between looks."""
    for published in (None, 1):
        looks = Looks()
        looks.add(0, consumers=0, published=published and 0, consumed=published and 0)
        looks.add(1, consumers=0, published=published, consumed=published and 0, times=40)
        looks.now += 5
        assert (looks.age, looks.idle) == (605, 605)


def test_a_consumer_that_keeps_up_is_not_old_though_never_empty() -> None:
    """100 come and 100 go between two looks: the oldest came after the look before."""
    looks = Looks()
    for turn in range(50):
        looks.add(100, published=100 * (turn + 1), consumed=100 * turn)
    assert (looks.age, looks.idle) == (LOOK_EVERY_SECONDS, 0)


def test_a_consumer_that_is_too_slow_grows_old() -> None:
    """100 come and 50 go: after 40 looks it is at what came after 20 of them."""
    looks = Looks()
    looks.add(0, published=0, consumed=0)
    for turn in range(1, 41):
        looks.add(50 * turn, published=100 * turn, consumed=50 * turn)
    assert looks.age == pytest.approx(20 * LOOK_EVERY_SECONDS, abs=LOOK_EVERY_SECONDS)
    assert looks.idle == 0


def test_a_consumer_that_takes_and_never_acknowledges_is_idle() -> None:
    """Nothing is ready, and all of it is still to be done."""
    looks = Looks()
    looks.add(0, published=0, consumed=0)
    looks.add(0, unacknowledged=20, published=20, consumed=0, times=60)
    assert looks.idle == 60 * LOOK_EVERY_SECONDS
    looks.add(0, unacknowledged=19, published=20, consumed=1)
    assert looks.idle == 0


@pytest.mark.parametrize("by_api", [True, False])
def test_what_a_full_queue_drops_is_not_consumed(*, by_api: bool) -> None:
    """It goes to the dead letters, and the next oldest is younger."""
    looks = Looks()
    looks.add(0, consumers=0, published=0 if by_api else None, consumed=0 if by_api else None)
    looks.add(10, consumers=0, published=10 if by_api else None, consumed=0 if by_api else None)
    for turn in range(1, 11):
        looks.add(
            10,
            consumers=0,
            dead=turn,
            published=10 + turn if by_api else None,
            consumed=0 if by_api else None,
        )
    assert looks.idle == 11 * LOOK_EVERY_SECONDS
    if by_api:
        assert looks.age == 10 * LOOK_EVERY_SECONDS


def test_without_the_management_api_the_age_of_a_consumed_queue_is_not_known() -> None:
    """It cannot be told which of the messages are new. When the consumer has gone, it counts from then on."""
    looks = Looks()
    looks.add(100, times=10)
    assert looks.age is None
    assert looks.idle == 9 * LOOK_EVERY_SECONDS, "nothing has gone"
    looks.add(99)
    assert looks.idle == 0
    looks.add(99, consumers=0, times=4)
    assert looks.age == 4 * LOOK_EVERY_SECONDS


def test_rabbitmq_begins_to_count_anew() -> None:
    """A restart of a node is no message that was consumed a long time ago, nor one that has come."""
    looks = Looks()
    looks.add(0, published=1000, consumed=1000)
    looks.add(10, published=1010, consumed=1000, times=2)
    looks.add(10, published=0, consumed=0)
    looks.add(12, published=2, consumed=0)
    assert looks.age == 4 * LOOK_EVERY_SECONDS


def test_after_a_time_without_looks_it_begins_anew() -> None:
    """RabbitMQ was away: nobody could have consumed."""
    looks = Looks()
    looks.add(5, consumers=0, times=10)
    looks.now += 3600
    looks.add(5, consumers=0)
    assert (looks.age, looks.idle) == (0, 0)


def test_a_queue_that_is_not_consumed_for_weeks_takes_little_memory() -> None:
    """And its age stays right, to within a little."""
    looks = Looks()
    looks.add(0, published=0, consumed=0)
    for turn in range(1, 10_001):
        looks.add(turn, consumers=0, published=turn, consumed=0)
    assert looks.age == 10_000 * LOOK_EVERY_SECONDS
    assert len(looks.progress._points) <= 512
    looks.add(5_000, published=10_000, consumed=5_000)
    assert looks.age == pytest.approx(5_000 * LOOK_EVERY_SECONDS, rel=0.05)


@pytest.mark.parametrize("counted", [True, False], ids=["by its count", "by its depth"])
def test_when_it_has_consumed_last(counted: bool) -> None:  # noqa: FBT001 -- a parameter of pytest
    """Told by RabbitMQ's count, or by a queue that became shorter; before it was ever seen, it is not known."""
    looks, ago = Looks(), []
    for ready, times in ((5, 3), (3, 1), (3, 2), (0, 1), (0, 4)):
        published, consumed = (5, 5 - ready) if counted else (None, None)
        looks.add(ready, published=published, consumed=consumed, times=times)
        ago.append(looks.progress.since_consumed_seconds)
    assert ago == [None, 0, 2 * LOOK_EVERY_SECONDS, 0, 4 * LOOK_EVERY_SECONDS]
