"""Backoff: how long to wait before the next attempt at a publish that RabbitMQ has not confirmed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tenacity import wait_random_exponential

from bridge.amqp.publish_errors import NackedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

_FIRST_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 600.0
_JITTER: Final = 0.2
"""Each wait is up to this share longer, never shorter."""


def backoff_seconds(attempts: int) -> float:
    """Seconds until the next attempt: 1 s, doubling to 10 min.

    A nacked message is already in every queue that took it, and each attempt adds a copy there. With these pauses
    there are at most 15 copies in the first hour.
    """
    seconds = min(_FIRST_SECONDS * 2.0 ** min(attempts - 1, 30), _MAX_SECONDS)
    return seconds * (1 + random.random() * _JITTER)  # noqa: S311 -- no secret


def tenacity_wait(longest_wait: float) -> Callable[[RetryCallState], float]:
    """The `wait` of tenacity: `backoff_seconds` after a nack, else random and exponential, at most `longest_wait` seconds."""
    otherwise = wait_random_exponential(multiplier=0.1, max=longest_wait)

    def wait(retrying: RetryCallState) -> float:
        error = retrying.outcome.exception() if retrying.outcome else None
        if isinstance(error, NackedError):
            return backoff_seconds(retrying.attempt_number)
        return otherwise(retrying)

    return wait
