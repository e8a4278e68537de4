"""`python -m tests.programs.cost.launcher MODULE ARGUMENTS...`: runs a program whose timers keep still, under valgrind.

There a program takes some fifty times as long, on a busy machine more. Its timers would ring as much more often for each
event. Signals: SIGUSR1 collects garbage, SIGUSR2 holds the timers.
"""

from __future__ import annotations

import gc
import queue
import runpy
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple

import uvloop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context

STARTING: Final = 20.0
"""How much slower the program's clock is at first, about as much as the program itself while nothing is counted yet."""
HELD: Final = 2_000.0
"""And from SIGUSR2 on: what would happen each second happens about never. A wait that needs no timer is as short as ever."""
_Ts = TypeVarTuple("_Ts")
_switch_after = sys.setswitchinterval
_monotonic = time.monotonic


class _Clock:
    """Time that passes more slowly, and never jumps."""

    def __init__(self) -> None:
        self.slower = STARTING
        self._at = self._from = _monotonic()

    def now(self) -> float:
        return self._at + (_monotonic() - self._from) / self.slower

    def hold(self) -> None:
        self._at, self._from, self.slower = self.now(), _monotonic(), HELD
        _switch_after(
            HELD
        )  # a thread goes on until it waits: on a busy machine no time would be as many instructions


_clock: Final = _Clock()


class _SlowLoop(uvloop.Loop):
    """Its timers take as much longer as the clock is slower. Its own time is the real one."""

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_later(delay * _clock.slower, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)


class _SlowQueue(queue.SimpleQueue[Any]):
    """Whoever waits for it in a thread waits as much longer."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 -- as the library has it
        return super().get(block, None if timeout is None else timeout * _clock.slower)


def _slow_switch(seconds: float) -> None:
    """Python's threads take turns after a time, too: after as many instructions as without valgrind."""
    _switch_after(seconds * STARTING)


def main() -> None:
    time.monotonic = _clock.now
    setattr(queue, "SimpleQueue", _SlowQueue)  # noqa: B010 -- it is a type to mypy
    sys.setswitchinterval = _slow_switch
    sys.setswitchinterval(sys.getswitchinterval())
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    signal.signal(signal.SIGUSR2, lambda *_: _clock.hold())
    uvloop.new_event_loop = _SlowLoop
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
