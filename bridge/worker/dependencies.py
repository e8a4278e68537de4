"""The worker's dependencies, provider and database: calls to them go through circuit breakers, and are timed."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from bridge.telemetry import logs
from bridge.worker.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator

    from bridge.telemetry.metrics import Metrics
    from bridge.worker.circuit_breaker import Probe

T = TypeVar("T")

Operation = Literal["read", "write"]

SLOW_SECONDS: Final = 5.0
"""A call that takes longer counts as hanging: SQLite waits this long for the lock of another process."""

log = logs.logger("worker")


class Dependency:
    """The provider or the database, behind one circuit breaker for reads and one for writes.

    A database may answer reads and refuse writes: a read that succeeds does not close the breaker of the writes.
    """

    def __init__(
        self,
        name: str,
        *,
        failure_limit: int,
        max_pause: float,
        metrics: Metrics,
        slow_after: float = SLOW_SECONDS,
        subject_errors: tuple[type[Exception], ...] = (),
        common_errors: tuple[type[Exception], ...] = (),
    ) -> None:
        """Make a dependency whose breakers are closed.

        Args:
            name: `provider` or `database`, for log, metrics and `/readyz`.
            failure_limit: how many in a row open a breaker.
            max_pause: the longest pause, in seconds.
            metrics: show state, pauses and the oldest call.
            slow_after: seconds after which a call without an answer counts as hanging.
            subject_errors: errors that may be due to the subject: it takes several subjects to open a breaker.
            common_errors: errors that calls of every other subject would meet, too.
        """
        self.name = name
        self.successes = 0
        """How many calls have been answered. A caller whose call failed can see by it whether others succeed."""
        self._metrics = metrics
        self._slow_after = slow_after
        self._calls_in_progress: dict[object, float] = {}
        """Call -> monotonic seconds of its begin, the oldest first."""
        self._breakers: dict[Operation, CircuitBreaker] = {
            operation: CircuitBreaker(
                failure_limit=failure_limit,
                max_pause=max_pause,
                on_change=partial(self._changed, operation),
                subject_errors=subject_errors,
                common_errors=common_errors,
            )
            for operation in get_args(Operation)
        }
        self._logged: dict[Operation, int] = dict.fromkeys(self._breakers, 0)
        """For each breaker the number of pauses that were logged; 0 while it is closed."""
        metrics.breaker_state.labels(name).set(0)
        metrics.pauses.labels(name)  # from nothing to 1 Prometheus sees no increase
        oldest = metrics.oldest_call_seconds.labels(name)
        metrics.before_scrape(lambda: oldest.set(self.oldest_call))

    @property
    def available(self) -> bool:
        """Whether all its breakers are closed."""
        return all(breaker.closed for breaker in self._breakers.values())

    @property
    def answering(self) -> bool:
        """Whether it is available, and no call hangs."""
        return self.available and self.oldest_call < self._slow_after

    @property
    def oldest_call(self) -> float:
        """Age of the oldest call in progress, in seconds; 0 where there is none."""
        began = self.oldest_call_at
        return 0.0 if began is None else time.monotonic() - began

    @property
    def oldest_call_at(self) -> float | None:
        """When the oldest call in progress began, in monotonic seconds."""
        return next(iter(self._calls_in_progress.values()), None)

    def description(self) -> dict[str, str]:
        """State and reason, for `/readyz`."""
        worst = max(self._breakers.values(), key=lambda breaker: breaker.state)
        reason = "" if worst.closed else worst.reason
        if self.oldest_call >= self._slow_after:
            reason = f"a call has not been answered for {self.oldest_call:.0f} s"
        return {"state": worst.state.text, "reason": reason}

    async def call(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        errors: tuple[type[Exception], ...],
        operation: Operation = "read",
        subject: Hashable = None,
        throttle: Callable[[Probe | None], Awaitable[None]] | None = None,
    ) -> T:
        """Make the call, once the breaker of this operation lets it through.

        Args:
            call: makes the call.
            errors: the errors that count as failures of the dependency. Any other error is an answer.
            operation: `write` for a transaction that writes.
            subject: what the call is about, where a failure may be due to that.
            throttle: waits for the rate limit, with the call's probe or None. If the breaker opens meanwhile, the call waits
                for the breaker again.

        Raises:
            Exception: what the call raises.
        """
        breaker = self._breakers[operation]
        while True:
            probe = await breaker.acquire(subject)
            try:
                if throttle is not None:
                    await throttle(probe)
                if probe is None and not breaker.closed:
                    continue
                return await self._call_and_report(breaker, call, errors, subject, probe)
            finally:
                breaker.release(probe)

    async def _call_and_report(
        self,
        breaker: CircuitBreaker,
        call: Callable[[], Awaitable[T]],
        errors: tuple[type[Exception], ...],
        subject: Hashable,
        probe: Probe | None,
    ) -> T:
        try:
            with self._timed():
                result = await call()
        except errors as error:
            breaker.failed(error, subject=subject, probe=probe)
            raise
        except Exception:
            self._succeeded(breaker)
            raise
        self._succeeded(breaker)
        return result

    def _succeeded(self, breaker: CircuitBreaker) -> None:
        self.successes += 1
        breaker.succeeded()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        call = object()
        self._calls_in_progress[call] = time.monotonic()
        try:
            yield
        finally:
            del self._calls_in_progress[call]

    def _changed(self, operation: Operation) -> None:
        self._metrics.breaker_state.labels(self.name).set(max(one.state for one in self._breakers.values()))
        breaker, logged = self._breakers[operation], self._logged[operation]
        self._logged[operation] = breaker.pauses
        if breaker.pauses > logged:
            self._metrics.pauses.labels(self.name).inc()
            log.warning(
                "waiting for a dependency",
                action="worker.pause",
                dependency=self.name,
                operation=operation,
                attempt=breaker.pauses,
                wait=round(breaker.pause, 2),
                error=breaker.reason,
            )
        elif logged and not breaker.pauses:
            log.info(
                "a dependency is back", action="worker.resume", dependency=self.name, operation=operation
            )
