"""How a process that stays ends: in order, but never later than its deadline, and at once at a second signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import uvloop

from bridge import startup
from bridge.roles.lifetime import Stop, running
from bridge.telemetry import logs
from bridge.threads import AbandonableThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logs.logger("process")

ABANDONED: Final = os.EX_TEMPFAIL
"""Exit code: it did not end in time, and left behind what it waited for."""
ENDING_SECONDS: Final = 4.0
"""What an end may take beyond `drain_timeout`, which is 5 s: Docker kills after 10 s."""
_CLOSING_SECONDS: Final = 1.0
"""What closing the loop may take: it waits for look-ups of names."""
_LEFT: Final = "ends in order; what does not come back is left behind"
_BY_SIGNAL: Final = 128
"""What shells add to the number of the signal that ended a program."""
_LAST_WORDS_SECONDS: Final = 0.5
"""For a log line whose reader may hang like everything else."""


def until_signal(
    main: Callable[[Stop], Coroutine[Any, Any, None]],
    *,
    patience: float = ENDING_SECONDS,
    at_once: bool = True,
    nothing_follows: bool = False,
) -> None:
    """Run on uvloop until `main` returns; a signal to stop sets the event that it was given.

    From that on it has a time to end in. No thread, loop or disk that hangs makes it longer: the process ends with the
    exit code `ABANDONED` then.

    Args:
        main: returns soon after its event is set. It may set the event itself when it begins to end.
        patience: seconds from the signal to the deadline.
        at_once: whether a second signal ends the process at once, with the exit code 128 + its number; else it is
            ignored, and the deadline stays as it is.
        nothing_follows: whether the process ends after this. Then what hangs when `main` has returned in order, such
            as a look-up of a name, is left behind soon, with the exit code 0.
    """
    startup.hold_signals()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    loop = runner.get_loop()
    # The loop's own threads would be waited for, and so would a disk that has gone.
    loop.set_default_executor(AbandonableThreads())
    end = _End(loop, patience=patience, at_once=at_once, nothing_follows=nothing_follows)
    try:
        with runner:
            runner.run(_bounded(main, end))
    finally:
        end.is_over()


def leave(code: int, error: Exception | None = None) -> None:
    """The role is over: end here and now with this code if a thread is left behind that Python would wait for.

    Args:
        code: the exit code.
        error: a mistake of ours that has ended it, which nobody else writes to the log where we end here.
    """
    left = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.daemon
    ]
    if left:
        if error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        _last_words(log.warning, _LEFT, action="process.threads_left", threads=left)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _bounded(main: Callable[[Stop], Coroutine[Any, Any, None]], end: _End) -> None:
    end.listen()
    async with running(end.begins_with_stop(), name="end"):
        try:
            await main(end.stop)
        finally:
            end.begin()
        end.is_in_order()


class _End:
    """The end of this process, seen from outside of what it runs: from threads that wait for nothing else."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, patience: float, at_once: bool, nothing_follows: bool
    ) -> None:
        self.stop = Stop()
        self._loop = loop
        self._patience = patience
        self._at_once = at_once
        self._nothing_follows = nothing_follows
        self._deadline = threading.Timer(patience, self._abandon)
        self._closing = threading.Timer(_CLOSING_SECONDS, self._leave)
        self._deadline.daemon = self._closing.daemon = True
        self._begun = threading.Lock()
        self._over = False

    def listen(self) -> None:
        """Hear of signals. A thread does: it hears of them also while the loop hangs."""
        threading.Thread(target=self._hear, name="signals", daemon=True).start()

    async def begins_with_stop(self) -> None:
        """The deadline holds also where the role ends by itself."""
        await self.stop.wait()
        self.begin()

    def is_in_order(self) -> None:
        """All is done that was promised; only the loop is still to be closed."""
        if self._nothing_follows:
            self._closing.start()

    def is_over(self) -> None:
        """Nothing is left that could take too long; signals end the process as they usually do."""
        self._over = True
        self._begun.acquire(blocking=False)
        self._deadline.cancel()
        self._closing.cancel()

    def _hear(self) -> None:
        stopping = startup.signals_to_stop()
        number = signal.sigwait(stopping)
        if not self._over:
            self.begin()
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self.stop.set)
            number = signal.sigwait(stopping)
            while not (self._at_once or self._over):
                number = signal.sigwait(stopping)
        _last_words(log.warning, "another signal: ends at once", action="process.interrupted")
        _end_now(_BY_SIGNAL + number)

    def begin(self) -> None:
        """From now on it has its time to end in."""
        if self._begun.acquire(blocking=False):
            self._deadline.start()

    def _leave(self) -> NoReturn:
        _last_words(log.warning, _LEFT, action="process.threads_left", threads=_threads())
        _end_now(os.EX_OK)

    def _abandon(self) -> NoReturn:
        if (error := self.stop.error) is not None:  # nobody will get as far as to raise it
            _last_words(sys.excepthook, type(error), error, error.__traceback__)
        _last_words(
            log.error,
            "does not end in time: what it waits for is left behind",
            action="process.abandoned",
            seconds=self._patience,
            tasks=_tasks(self._loop),
            threads=_threads(),
        )
        _end_now(ABANDONED)


def _end_now(code: int) -> NoReturn:
    """Without waiting for anything; processes that this one has started end with it."""
    for child in _children():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(child) == child:
                os.killpg(child, signal.SIGKILL)
            else:
                os.kill(child, signal.SIGKILL)
    os._exit(code)


def _children() -> list[int]:
    """The processes that this one has started, as far as this system tells."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    with suppress(RuntimeError):  # the loop may make new ones while they are looked at
        return sorted(task.get_name() for task in asyncio.all_tasks(loop))
    return []


def _threads() -> list[str]:
    """Where each thread but this one and the one that hears of signals stands."""
    frames = sys._current_frames()  # noqa: SLF001 -- Python has no other way to look at another thread
    ours = {threading.get_ident()}
    return [
        f"{thread.name}: {place.filename}:{place.lineno} {place.name}"
        for thread in threading.enumerate()
        if thread.ident in frames and thread.ident not in ours and thread.name != "signals"
        for place in traceback.extract_stack(frames[thread.ident])[-1:]
    ]


def _last_words(write: Callable[..., Any], *said: Any, **fields: Any) -> None:
    speaking = threading.Thread(target=partial(write, *said, **fields), daemon=True)
    speaking.start()
    speaking.join(_LAST_WORDS_SECONDS)
