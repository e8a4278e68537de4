"""A circuit breaker for calls that wait: who fails is left alone, and those who wait find out whether it is back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_FIRST_PAUSE_SECONDS: Final = 0.2
_FRESH_EVERY_SECONDS: Final = 1.0
"""Who has not failed yet need not wait longer for a trial: it is not to pay for what may be others' own fault."""


class State(IntEnum):
    """What of a breaker the metrics show."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(eq=False, slots=True)
class Probe:
    """A call that waits behind an open breaker, and that may be let through to see whether it succeeds."""

    subject: Hashable
    admitted: asyncio.Future[bool]
    """True: as a probe. False: the breaker is closed, as for everybody."""
    fresh: bool = False
    """Beside the pause, because its subject has not failed yet."""


class Breaker:
    """Opens after so many failures in a row, for a pause that doubles each time up to the longest.

    A failure that may be its subject's own counts once a subject. At the end of a pause one call is let through,
    whose subject was tried longest ago, of those the newest; where its failure may be its own, further ones of other
    subjects are, as many as it takes to open. If all fail, the next pause begins. A success closes it.
    """

    def __init__(
        self,
        *,
        failures: int,
        longest: float,
        changed: Callable[[], None],
        of_one: tuple[type[Exception], ...] = (),
        of_all: tuple[type[Exception], ...] = (),
    ) -> None:
        """Make a closed one.

        Args:
            failures: in a row, after which it opens.
            longest: the longest pause, in seconds.
            changed: called after each change of its state.
            of_one: errors that may be their subject's own.
            of_all: errors that are certain to meet every other subject, too.
        """
        self.pause = 0.0
        """The length of the last pause, in seconds."""
        self.pauses = 0
        """How many there have been since it was closed."""
        self.reason = ""
        """The last failure."""
        self._limit = failures
        self._longest = longest
        self._changed = changed
        self._of_one = of_one
        self._of_all = of_all
        self._closed = True
        self._failures = 0
        self._failed: dict[Hashable, int] = {}
        """Subjects that have failed since the last success -> their turn, the greater the later."""
        self._turns = 0
        self._until = self._next_fresh = 0.0
        self._spare_fresh = False
        self._round: set[Hashable] = set()
        """Subjects whose probes have failed since the last pause has ended."""
        self._waiting: list[Probe] = []
        self._probing: set[Probe] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def state(self) -> State:
        if self._closed:
            return State.CLOSED
        return State.HALF_OPEN if self._probing else State.OPEN

    async def admission(self, subject: Hashable = None) -> Probe | None:
        """Wait until a call may be made; None as long as everybody may. Who gets a probe must `leave` it."""
        if self._closed:
            return None
        waiting = Probe(subject, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._look()
        try:
            return waiting if await waiting.admitted else None
        except asyncio.CancelledError:
            if waiting in self._probing:
                self.leave(waiting)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def leave(self, probe: Probe | None) -> None:
        """The call of this probe has ended, whether it was judged or not: the next may have its turn."""
        if probe in self._probing:
            self._probing.remove(probe)
            self._look()
            self._changed()

    def succeeded(self) -> None:
        """There was an answer, be it to a call that was made before the breaker opened."""
        self._failures = 0
        self._failed.clear()
        if not self._closed:
            self._closed, self.pauses, self.reason = True, 0, ""
            self._round.clear()
            self._look()
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.admitted.done():
                    one.admitted.set_result(False)
            self._changed()

    def failed(self, error: Exception, *, subject: Hashable = None, probe: Probe | None = None) -> None:
        """There was none."""
        self.reason = str(error)
        self._spare_fresh = isinstance(error, self._of_all)
        may_be_its_own = subject is not None and isinstance(error, self._of_one)
        again = subject in self._failed
        self._turns += 1
        if subject is not None:
            self._failed[subject] = self._turns
        if self._closed:
            self._failures += not (may_be_its_own and again)
            if self._failures >= self._limit:
                self._open()
        elif probe is not None and not probe.fresh:
            self._round.add(subject)
            others = may_be_its_own and len(self._round) < self._limit and self._next_of_round() is not None
            if not others:
                self._open()

    def _open(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._closed:
            self._next_fresh = now + _FRESH_EVERY_SECONDS
        self.pause = min(self._longest, _FIRST_PAUSE_SECONDS * 2 ** min(self.pauses, 30))
        self.pauses += 1
        self._until = now + self.pause
        self._closed = False
        self._round.clear()
        self._look()
        self._changed()

    def _look(self) -> None:
        """Let through who may be, and see to it that this is looked at again when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Whose task was cancelled a moment ago has not been able to leave yet.
        self._waiting = [one for one in self._waiting if not one.admitted.done()]
        if self._closed or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        in_turn = all(probe.fresh for probe in self._probing)
        if in_turn and now >= self._until and (probe := self._next_of_round()) is not None:
            self._admit(probe)
        elif now >= self._next_fresh and (probe := self._next_fresh_one()) is not None:
            probe.fresh = True
            self._admit(probe)
        times = [self._until] * (in_turn and now < self._until)
        times += [self._next_fresh] * (now < self._next_fresh)
        if times:
            self._timer = loop.call_at(min(times), self._look)

    def _admit(self, probe: Probe) -> None:
        self._next_fresh = asyncio.get_running_loop().time() + _FRESH_EVERY_SECONDS
        self._waiting.remove(probe)
        self._probing.add(probe)
        probe.admitted.set_result(True)
        self._changed()

    def _next_of_round(self) -> Probe | None:
        candidates = (one for one in reversed(self._waiting) if one.subject not in self._round)
        return min(candidates, key=lambda one: self._failed.get(one.subject, 0), default=None)

    def _next_fresh_one(self) -> Probe | None:
        if self._spare_fresh:
            return None
        return next(
            (
                one
                for one in reversed(self._waiting)
                if one.subject is not None and one.subject not in self._failed
            ),
            None,
        )
