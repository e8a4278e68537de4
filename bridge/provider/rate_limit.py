"""The rate limit of the provider's API, the backoff between attempts, and `Retry-After`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from aiolimiter import AsyncLimiter
from tenacity import RetryCallState, wait_random_exponential
from tenacity.wait import wait_base

from bridge.provider.errors import ServerFailureError

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]

_FIRST_BACKOFF: Final = 0.5
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


class Backoff(wait_base):
    """Exponential backoff with full jitter; never shorter than the `Retry-After` of a 5xx."""

    def __init__(self, longest: float) -> None:
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        self._backoff = wait_random_exponential(multiplier=_FIRST_BACKOFF, max=longest)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        requested = error.retry_after if isinstance(error, ServerFailureError) else None
        return max(self._backoff(retry_state), requested or 0.0)


class RateLimiter:
    """Limits the rate of all calls of one client, and can pause them."""

    def __init__(self, rate: float, *, sleep: Sleep, clock: Clock) -> None:
        """Args: calls a second; a sleep, and the monotonic clock in seconds that goes with it."""
        # The bucket must hold one whole call, however low the rate is.
        bucket = max(rate, 1.0)
        self._limiter = AsyncLimiter(bucket, bucket / rate)
        self._sleep = sleep
        self._clock = clock
        self._held_until = clock()

    async def acquire(self) -> None:
        """Wait until the next call may be made."""
        while True:
            # The pause first: callers that acquired the rate before it would all start at its end.
            while (left := self._held_until - self._clock()) > 0:
                await self._sleep(left)
            await self._limiter.acquire()
            if self._held_until <= self._clock():
                return

    def pause(self, seconds: float) -> None:
        """Allow no call for this many seconds. A longer pause that is in force stays."""
        self._held_until = max(self._held_until, self._clock() + seconds)


def retry_after(value: str | None, *, now: datetime, at_most: float) -> float | None:
    """The seconds of a `Retry-After` header (RFC 9110, 10.2.3: seconds, or a date), from 0 to `at_most`.

    None if there is no such header, or it cannot be read.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), at_most)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max((date - now).total_seconds(), 0.0), at_most)
