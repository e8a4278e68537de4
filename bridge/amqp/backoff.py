"""How long to wait before the next attempt at a publish that RabbitMQ has not taken."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tenacity import wait_random_exponential

from bridge.amqp.publish_errors import NackedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 600.0
_SPREAD: Final = 0.2
"""Waits are up to so much longer, never shorter."""


def after_refusals(attempts: int) -> float:
    """Seconds until the next one: 1 s, doubling to 10 min.

    A message that was nacked is in every queue that took it, and each attempt puts another copy there: so it has at
    most 15 in the first hour.
    """
    seconds = min(_FIRST_SECONDS * 2.0 ** min(attempts - 1, 30), _LONGEST_SECONDS)
    return seconds * (1 + random.random() * _SPREAD)  # noqa: S311 -- no secret


def before_next(longest_wait: float) -> Callable[[RetryCallState], float]:
    """For tenacity: as `after_refusals` where RabbitMQ nacked, else at random, up to so many seconds."""
    otherwise = wait_random_exponential(multiplier=0.1, max=longest_wait)

    def wait(retrying: RetryCallState) -> float:
        error = retrying.outcome.exception() if retrying.outcome else None
        if isinstance(error, NackedError):
            return after_refusals(retrying.attempt_number)
        return otherwise(retrying)

    return wait
