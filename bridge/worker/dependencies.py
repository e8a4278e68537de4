"""What the worker depends on, provider and database: how it is asked, whether it answers, and what is paused for it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from bridge.telemetry import logs
from bridge.worker.circuit_breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator

    from bridge.telemetry.metrics import Metrics
    from bridge.worker.circuit_breaker import Probe

T = TypeVar("T")

Work = Literal["read", "write"]

SLOW_SECONDS: Final = 5.0
"""SQLite waits no longer for another process's lock: a call that has taken more is one that hangs."""

log = logs.logger("worker")


class Dependency:
    """The provider, or the database, behind a circuit breaker for each kind of work.

    A database may answer each read and refuse each write: what writes have opened, no read closes.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        longest: float,
        metrics: Metrics,
        slow_after: float = SLOW_SECONDS,
        of_one: tuple[type[Exception], ...] = (),
        of_all: tuple[type[Exception], ...] = (),
    ) -> None:
        """Make one that is thought to be well.

        Args:
            name: `provider` or `database`, for log, metrics and `/readyz`.
            failures: in a row, after which a breaker opens.
            longest: the longest pause, in seconds.
            metrics: where state, pauses and the oldest call are shown.
            slow_after: seconds after which it counts as not answering the call that it has been asked.
            of_one: errors that may be their subject's own: they open a breaker only by several subjects.
            of_all: errors that are certain to meet every other subject, too.
        """
        self.name = name
        self.successes = 0
        """How many calls have been answered: who has failed can tell by it whether others have not."""
        self._metrics = metrics
        self._slow_after = slow_after
        self._under_way: dict[object, float] = {}
        """Calls -> when they began, the oldest first."""
        self._breakers: dict[Work, Breaker] = {
            work: Breaker(
                failures=failures,
                longest=longest,
                changed=partial(self._changed, work),
                of_one=of_one,
                of_all=of_all,
            )
            for work in get_args(Work)
        }
        self._logged: dict[Work, int] = dict.fromkeys(self._breakers, 0)
        """Of each breaker, the pauses that are in the log; 0 while it is closed."""
        metrics.breaker_state.labels(name).set(0)
        metrics.pauses.labels(name)  # from nothing to 1 Prometheus sees no increase
        oldest = metrics.oldest_call_seconds.labels(name)
        metrics.before_reading(lambda: oldest.set(self.oldest_call))

    @property
    def available(self) -> bool:
        """Whether no work with it is paused."""
        return all(breaker.closed for breaker in self._breakers.values())

    @property
    def answering(self) -> bool:
        """Whether it is available, and has left no call without an answer for long."""
        return self.available and self.oldest_call < self._slow_after

    @property
    def oldest_call(self) -> float:
        """For how many seconds the oldest call that is under way has been; 0 where there is none."""
        began = self.oldest_call_at
        return 0.0 if began is None else time.monotonic() - began

    @property
    def oldest_call_at(self) -> float | None:
        """When the oldest call that is under way began, in monotonic seconds."""
        return next(iter(self._under_way.values()), None)

    def description(self) -> dict[str, str]:
        """State and reason, for `/readyz`."""
        worst = max(self._breakers.values(), key=lambda breaker: breaker.state)
        reason = "" if worst.closed else worst.reason
        if self.oldest_call >= self._slow_after:
            reason = f"a call has not been answered for {self.oldest_call:.0f} s"
        return {"state": worst.state.text, "reason": reason}

    async def ask(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        failing: tuple[type[Exception], ...],
        work: Work = "read",
        subject: Hashable = None,
        turn: Callable[[Probe | None], Awaitable[None]] | None = None,
    ) -> T:
        """Make the call, once the breaker of this kind of work lets it through.

        Args:
            call: makes it.
            failing: the errors that speak against the dependency. Any other is an answer, too.
            work: a transaction that writes is a `write`.
            subject: whom it is about, where the failure may be due to that.
            turn: waits until there is room in a rate; given the probe that the call is, if any. Who waited so long that the
                breaker opened waits behind it.

        Raises:
            Exception: what the call raises.
        """
        breaker = self._breakers[work]
        while True:
            probe = await breaker.admission(subject)
            try:
                if turn is not None:
                    await turn(probe)
                if probe is None and not breaker.closed:
                    continue
                return await self._judged(breaker, call, failing, subject, probe)
            finally:
                breaker.leave(probe)

    async def _judged(
        self,
        breaker: Breaker,
        call: Callable[[], Awaitable[T]],
        failing: tuple[type[Exception], ...],
        subject: Hashable,
        probe: Probe | None,
    ) -> T:
        try:
            with self._timed():
                result = await call()
        except failing as error:
            breaker.failed(error, subject=subject, probe=probe)
            raise
        except Exception:
            self._succeeded(breaker)
            raise
        self._succeeded(breaker)
        return result

    def _succeeded(self, breaker: Breaker) -> None:
        self.successes += 1
        breaker.succeeded()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        call = object()
        self._under_way[call] = time.monotonic()
        try:
            yield
        finally:
            del self._under_way[call]

    def _changed(self, work: Work) -> None:
        self._metrics.breaker_state.labels(self.name).set(max(one.state for one in self._breakers.values()))
        breaker, logged = self._breakers[work], self._logged[work]
        self._logged[work] = breaker.pauses
        if breaker.pauses > logged:
            self._metrics.pauses.labels(self.name).inc()
            log.warning(
                "waiting for a dependency",
                action="worker.pause",
                dependency=self.name,
                work=work,
                attempt=breaker.pauses,
                wait=round(breaker.pause, 2),
                error=breaker.reason,
            )
        elif logged and not breaker.pauses:
            log.info("a dependency is back", action="worker.resume", dependency=self.name, work=work)
