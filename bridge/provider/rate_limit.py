"""How fast the provider is asked, and when not at all: the rate limit, and the pause that `Retry-After` asks for."""

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
    """Growing random waits between attempts; never less than the server has asked this caller to wait."""

    def __init__(self, longest: float) -> None:
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        self._backoff = wait_random_exponential(multiplier=_FIRST_BACKOFF, max=longest)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = error.retry_after if isinstance(error, ServerFailureError) else None
        return max(self._backoff(retry_state), asked or 0.0)


class Pace:
    """The pace of all calls of one client, whoever makes them."""

    def __init__(self, rate: float, *, sleep: Sleep, clock: Clock) -> None:
        """A pace of `rate` calls a second; `clock` is monotonic, in seconds, and `sleep` goes with it."""
        # A limiter's bucket must hold one whole call, however slow the rate is.
        bucket = max(rate, 1.0)
        self._limiter = AsyncLimiter(bucket, bucket / rate)
        self._sleep = sleep
        self._clock = clock
        self._held_until = clock()

    async def turn(self) -> None:
        """Return when the next call may be made."""
        while True:
            # The pause first: callers who took their place in the rate before it would all start at its end.
            while (left := self._held_until - self._clock()) > 0:
                await self._sleep(left)
            await self._limiter.acquire()
            if self._held_until <= self._clock():
                return

    def hold(self, seconds: float) -> None:
        """Let nobody call for so long; a longer pause that is already in force stays."""
        self._held_until = max(self._held_until, self._clock() + seconds)


def retry_after(value: str | None, *, now: datetime, at_most: float) -> float | None:
    """Seconds that a `Retry-After` header (RFC 9110, 10.2.3: seconds, or a date) asks for, from 0 to `at_most`.

    None when there is no such header, or one that cannot be read.
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
