"""How long a publish that RabbitMQ has not taken waits for its next attempt."""

from __future__ import annotations

import pytest
from tenacity import AsyncRetrying, RetryCallState

from bridge.amqp.backoff import backoff_seconds, tenacity_wait
from bridge.amqp.publish_errors import LostError, NackedError, PublishError


def test_refusals_are_followed_by_longer_and_longer_pauses() -> None:
    """1 s doubling to 10 min, never shorter: a first publish and 14 more attempts in an hour at the most."""
    pauses = [backoff_seconds(attempts) for attempts in range(1, 16)]
    least = [min(2.0**number, 600.0) for number in range(15)]
    assert all(short <= pause <= 1.2 * short for short, pause in zip(least, pauses, strict=True))
    assert sum(least[:14]) <= 3600 < sum(least)
    assert backoff_seconds(10_000) >= 600


@pytest.mark.parametrize(
    ("error", "least", "most"), [(NackedError("nacked"), 8.0, 9.6), (LostError("lost"), 0.0, 2.0)]
)
def test_what_was_nacked_waits_longer_than_what_was_lost(
    error: PublishError, least: float, most: float
) -> None:
    """A loss may be over at once; what was nacked is in other queues already."""
    retrying = RetryCallState(AsyncRetrying(), None, (), {})
    retrying.attempt_number = 4
    retrying.set_exception((type(error), error, None))
    assert least <= tenacity_wait(2.0)(retrying) <= most


def test_without_an_outcome_it_waits_at_random() -> None:
    """As tenacity asks before anything was tried."""
    assert 0 <= tenacity_wait(2.0)(RetryCallState(AsyncRetrying(), None, (), {})) <= 2.0
