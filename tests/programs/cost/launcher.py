"""`python -m tests.programs.cost.launcher MODULE ARGUMENTS...`: runs a program on a clock that is as slow as valgrind makes it; SIGUSR1 collects garbage.

Under valgrind a program takes some fifty times as long. Its timers would then ring fifty times as often for each event, and
more often on a busy machine. Here they take as much longer.
"""

from __future__ import annotations

import gc
import runpy
import signal
import sys
from typing import TYPE_CHECKING, Final, TypeVarTuple

import uvloop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context

SLOWER: Final = 50
_Ts = TypeVarTuple("_Ts")
_switch_after = sys.setswitchinterval


class _SlowLoop(uvloop.Loop):
    """Its timers take `SLOWER` times as long."""

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_later(delay * SLOWER, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_later((when - self.time()) * SLOWER, callback, *args, context=context)


def _slow_switch(seconds: float) -> None:
    """Python's threads take turns after a time, too."""
    _switch_after(seconds * SLOWER)


def main() -> None:
    sys.setswitchinterval = _slow_switch
    sys.setswitchinterval(sys.getswitchinterval())
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    uvloop.new_event_loop = _SlowLoop
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
