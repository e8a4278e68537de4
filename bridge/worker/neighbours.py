"""A neighbour that fails is left alone for a while: a circuit breaker, and the queue of those who wait behind it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
)

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.telemetry.metrics import Metrics

T = TypeVar("T")

log = logs.logger("worker")

_FIRST_PAUSE_SECONDS: Final = 0.2
_NUMBERS: Final = {STATE_CLOSED: 0, STATE_HALF_OPEN: 1, STATE_OPEN: 2}


class Neighbour:
    """Somebody whom the worker needs: the provider, or the database.

    After some failures in a row, whoever caused them, the breaker opens: nobody is let through. At the end of
    a pause, which doubles each time, one call is let through as a probe. When it succeeds, so may all others.
    """

    def __init__(self, name: str, *, failures: int, longest: float, metrics: Metrics) -> None:
        """Make one that is thought to be well.

        Args:
            name: `provider` or `database`, for log, metrics and `/readyz`.
            failures: in a row, after which the breaker opens.
            longest: the longest pause, in seconds.
            metrics: where state and pauses are counted.
        """
        self.name = name
        self.answers = 0
        """How many calls have succeeded: who has failed can tell by it whether others have not."""
        self._longest = longest
        self._metrics = metrics
        self._pauses = 0
        self._until = 0.0
        self._reason = ""
        self._closed = asyncio.Event()
        self._closed.set()
        self._first_in_line = asyncio.Lock()
        self._breaker = CircuitBreaker(
            fail_max=failures, name=name, listeners=[_Told(self._became)], throw_new_error_on_trip=False
        )
        metrics.breaker_state.labels(name).set(_NUMBERS[STATE_CLOSED])
        metrics.pauses.labels(name)  # from nothing to 1 Prometheus sees no increase

    @property
    def well(self) -> bool:
        """Whether the breaker is closed."""
        return self._closed.is_set()

    def description(self) -> dict[str, str]:
        """State and reason, for `/readyz`."""
        return {"state": self._breaker.current_state, "reason": self._reason}

    async def ask(self, call: Callable[[], Awaitable[T]], *, failing: tuple[type[Exception], ...]) -> T:
        """Make the call, once the breaker lets it through.

        Args:
            call: makes it.
            failing: the errors that speak against the neighbour. Any other is an answer, too.

        Raises:
            Exception: what the call raises.
        """
        if not self.well:
            async with self._first_in_line:
                await self._pause()
                if not self.well:
                    self._breaker.half_open()
                    return await self._judged(call, failing)
        return await self._judged(call, failing)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                await self._closed.wait()

    async def _judged(self, call: Callable[[], Awaitable[T]], failing: tuple[type[Exception], ...]) -> T:
        try:
            result = await call()
        except failing as error:
            self._failed(error)
            raise
        except Exception:
            self._succeeded()
            raise
        self._succeeded()
        return result

    def _succeeded(self) -> None:
        self.answers += 1
        if self._breaker.current_state == STATE_OPEN:
            self._breaker.close()  # the answer to a call that was made before
        else:
            self._breaker.call(_nothing)

    def _failed(self, error: Exception) -> None:
        self._reason = str(error)
        if self._breaker.current_state != STATE_OPEN:
            with suppress(type(error)):
                self._breaker.call(_raise, error)

    def _became(self, old: str, new: str) -> None:
        self._metrics.breaker_state.labels(self.name).set(_NUMBERS[new])
        if new == STATE_OPEN:
            self._opened()
        elif new == STATE_CLOSED and old != STATE_CLOSED:
            self._pauses = 0
            self._reason = ""
            self._closed.set()
            log.info("a neighbour is back", action="worker.resume", neighbour=self.name)

    def _opened(self) -> None:
        pause = min(self._longest, _FIRST_PAUSE_SECONDS * 2 ** min(self._pauses, 30))
        self._pauses += 1
        self._until = asyncio.get_running_loop().time() + pause
        self._closed.clear()
        self._metrics.pauses.labels(self.name).inc()
        log.warning(
            "waiting for a neighbour",
            action="worker.pause",
            neighbour=self.name,
            attempt=self._pauses,
            wait=round(pause, 2),
            error=self._reason,
        )


class _Told(CircuitBreakerListener):
    """Hands on each change of state."""

    def __init__(self, became: Callable[[str, str], None]) -> None:
        self._became = became

    def state_change(
        self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState
    ) -> None:
        del cb
        self._became(STATE_CLOSED if old_state is None else old_state.name, new_state.name)


def _nothing() -> None:
    """The success that the breaker is told of."""


def _raise(error: Exception) -> Any:
    """The failure that the breaker is told of."""
    raise error
