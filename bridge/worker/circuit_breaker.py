"""A circuit breaker for asyncio: while it is open, calls wait, and some of them are let through as probes.

The libraries' breakers fail calls while they are open, and let any call through as the probe: one bad message could keep
them open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_FIRST_PAUSE_SECONDS: Final = 0.2
_EXTRA_PROBE_EVERY_SECONDS: Final = 1.0
"""While it is open, a call of a subject that has not failed is let through this often: the outage may be due to other
subjects only."""


class BreakerState(IntEnum):
    """The state of a breaker, with its value in the metrics."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def text(self) -> str:
        """For people and `/readyz`: `closed`, `half-open` or `open`."""
        return self.name.lower().replace("_", "-")


@dataclass(eq=False, slots=True)
class Probe:
    """A call that waits while the breaker is open, and may be let through to see whether it succeeds."""

    subject: Hashable
    admitted: asyncio.Future[bool]
    """True: let through as a probe. False: the breaker has closed."""
    is_extra: bool = False
    """Let through during the pause, because its subject has not failed since the last success."""


class CircuitBreaker:
    """Opens after a number of failures in a row. Each pause is twice as long as the one before, up to a limit.

    An error of `subject_errors` counts once for each subject. After a pause one call is let through as a probe: the
    newest one of the subject that failed longest ago. If its error is one of `subject_errors`, calls of other subjects
    follow, as many as it takes to open. If all of them fail, the next pause begins. A success closes the breaker.
    """

    def __init__(
        self,
        *,
        failure_limit: int,
        max_pause: float,
        on_change: Callable[[], None],
        subject_errors: tuple[type[Exception], ...] = (),
        common_errors: tuple[type[Exception], ...] = (),
    ) -> None:
        """Make a closed breaker.

        Args:
            failure_limit: how many in a row open it.
            max_pause: the longest pause, in seconds.
            on_change: called after each change of its state.
            subject_errors: errors that may be due to the subject of the call.
            common_errors: errors that calls of every other subject would meet, too.
        """
        self.pause = 0.0
        """The length of the last pause, in seconds."""
        self.pauses = 0
        """How many pauses there have been since it was closed last."""
        self.reason = ""
        """The text of the last failure."""
        self._failure_limit = failure_limit
        self._max_pause = max_pause
        self._on_change = on_change
        self._subject_errors = subject_errors
        self._common_errors = common_errors
        self._closed = True
        self._failures = 0
        self._failed: dict[Hashable, int] = {}
        """Subject -> number of its last failure since the last success. A greater number is a later failure."""
        self._failure_number = 0
        self._until = self._next_extra_probe_at = 0.0
        self._hold_extra_probes = False
        self._failed_probes: set[Hashable] = set()
        """Subjects whose probes have failed since the last pause ended."""
        self._waiting: list[Probe] = []
        self._probing: set[Probe] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        """Whether calls go through without waiting."""
        return self._closed

    @property
    def state(self) -> BreakerState:
        """Half-open while a probe is in progress."""
        if self._closed:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probing else BreakerState.OPEN

    async def acquire(self, subject: Hashable = None) -> Probe | None:
        """Wait until a call may be made. Returns None while the breaker is closed, else a probe that must be released."""
        if self._closed:
            return None
        waiting = Probe(subject, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._admit_next()
        try:
            return waiting if await waiting.admitted else None
        except asyncio.CancelledError:
            if waiting in self._probing:
                self.release(waiting)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def release(self, probe: Probe | None) -> None:
        """The call of this probe has ended, with any result or none: the next one may be let through."""
        if probe in self._probing:
            self._probing.remove(probe)
            self._admit_next()
            self._on_change()

    def succeeded(self) -> None:
        """A call has succeeded. It may have begun before the breaker opened."""
        self._failures = 0
        self._failed.clear()
        if not self._closed:
            self._closed, self.pauses, self.reason = True, 0, ""
            self._failed_probes.clear()
            self._admit_next()
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.admitted.done():
                    one.admitted.set_result(False)
            self._on_change()

    def failed(self, error: Exception, *, subject: Hashable = None, probe: Probe | None = None) -> None:
        """A call has failed.

        Args:
            error: of the call.
            subject: what the call was about, as in `acquire`.
            probe: the call's own, if it was one.
        """
        self.reason = str(error)
        self._hold_extra_probes = isinstance(error, self._common_errors)
        may_be_the_subject = subject is not None and isinstance(error, self._subject_errors)
        again = subject in self._failed
        self._failure_number += 1
        if subject is not None:
            self._failed[subject] = self._failure_number
        if self._closed:
            self._failures += not (may_be_the_subject and again)
            if self._failures >= self._failure_limit:
                self._open()
        elif probe is not None and not probe.is_extra:
            self._failed_probes.add(subject)
            others = (
                may_be_the_subject
                and len(self._failed_probes) < self._failure_limit
                and self._next_probe() is not None
            )
            if not others:
                self._open()

    def _open(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._closed:
            self._next_extra_probe_at = now + _EXTRA_PROBE_EVERY_SECONDS
        self.pause = min(self._max_pause, _FIRST_PAUSE_SECONDS * 2 ** min(self.pauses, 30))
        self.pauses += 1
        self._until = now + self.pause
        self._closed = False
        self._failed_probes.clear()
        self._admit_next()
        self._on_change()

    def _admit_next(self) -> None:
        """Let a waiting call through if it is time for one, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A call whose task has just been cancelled has not been able to leave the list yet.
        self._waiting = [one for one in self._waiting if not one.admitted.done()]
        if self._closed or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        only_extra_probes = all(probe.is_extra for probe in self._probing)
        if only_extra_probes and now >= self._until and (probe := self._next_probe()) is not None:
            self._admit(probe)
        elif now >= self._next_extra_probe_at and (probe := self._next_extra_probe()) is not None:
            probe.is_extra = True
            self._admit(probe)
        times = [self._until] * (only_extra_probes and now < self._until)
        times += [self._next_extra_probe_at] * (now < self._next_extra_probe_at)
        if times:
            self._timer = loop.call_at(min(times), self._admit_next)

    def _admit(self, probe: Probe) -> None:
        self._next_extra_probe_at = asyncio.get_running_loop().time() + _EXTRA_PROBE_EVERY_SECONDS
        self._waiting.remove(probe)
        self._probing.add(probe)
        probe.admitted.set_result(True)
        self._on_change()

    def _next_probe(self) -> Probe | None:
        candidates = (one for one in reversed(self._waiting) if one.subject not in self._failed_probes)
        return min(candidates, key=lambda one: self._failed.get(one.subject, 0), default=None)

    def _next_extra_probe(self) -> Probe | None:
        if self._hold_extra_probes:
            return None
        return next(
            (
                one
                for one in reversed(self._waiting)
                if one.subject is not None and one.subject not in self._failed
            ),
            None,
        )
