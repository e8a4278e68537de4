"""The shutdown of a long-running process: in order, but not after its deadline, and at once at a second signal."""

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
from bridge.roles.lifetime import Stop
from bridge.tasks import background_task
from bridge.telemetry import logs
from bridge.threads import AbandonableThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logs.logger("roles")

ABANDONED: Final = os.EX_TEMPFAIL
"""Exit code: it did not end before the deadline, and abandoned what it waited for."""
ENDING_SECONDS: Final = 4.0
"""How long a shutdown may take beyond `drain_timeout`, which is 5 s: Docker kills after 10 s."""
_CLOSING_SECONDS: Final = 1.0
"""How long closing the loop may take: it waits for DNS look-ups."""
_THREADS_LEFT: Final = "shutting down: threads that do not end are abandoned"
_SIGNAL_EXIT_BASE: Final = 128
"""Exit codes of processes that were ended by a signal are this plus its number, as in a shell."""
_LOG_SECONDS: Final = 0.5
"""For writing a log line: its reader may hang, too."""


def run_until_signal(
    main: Callable[[Stop], Coroutine[Any, Any, None]],
    *,
    deadline_seconds: float = ENDING_SECONDS,
    at_once: bool = True,
    process_ends: bool = False,
) -> None:
    """Run `main` on uvloop until it returns. A stop signal sets the event that `main` was given.

    From then on there is a deadline, which holds even if a thread, the loop or a disk hangs: then the process ends with the
    exit code `ABANDONED`.

    Args:
        main: returns soon after the event is set. It may set the event itself when it begins to shut down.
        deadline_seconds: seconds from the signal to the deadline.
        at_once: whether a second signal ends the process at once, with the exit code 128 + its number. Else it is ignored.
        process_ends: whether the process ends after this. Then what still hangs after `main` has returned, such as a DNS
            look-up, is abandoned soon, with the exit code 0.
    """
    startup.hold_signals()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    loop = runner.get_loop()
    # The default executor's threads would be waited for, also those that wait for a disk that is gone.
    loop.set_default_executor(AbandonableThreads())
    shutdown = _Shutdown(loop, deadline_seconds=deadline_seconds, at_once=at_once, process_ends=process_ends)
    try:
        with runner:
            runner.run(_run_with_deadline(main, shutdown))
    finally:
        shutdown.finish()


def exit_if_threads_remain(code: int, error: Exception | None = None) -> None:
    """End the process now with this exit code if a thread is left for which Python would wait.

    Args:
        code: the exit code.
        error: an uncaught exception that has ended the role; it is logged if the process ends here.
    """
    left = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.daemon
    ]
    if left:
        if error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        _log_with_timeout(log.warning, _THREADS_LEFT, action="process.threads_left", threads=left)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _run_with_deadline(main: Callable[[Stop], Coroutine[Any, Any, None]], shutdown: _Shutdown) -> None:
    shutdown.listen()
    async with background_task(shutdown.begin_when_stopped(), name="shutdown"):
        try:
            await main(shutdown.stop)
        finally:
            shutdown.begin()
        shutdown.finished_in_order()


class _Shutdown:
    """The shutdown of this process. It runs in threads of its own, which wait for nothing else."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, deadline_seconds: float, at_once: bool, process_ends: bool
    ) -> None:
        self.stop = Stop()
        self._loop = loop
        self._deadline_seconds = deadline_seconds
        self._at_once = at_once
        self._process_ends = process_ends
        self._deadline = threading.Timer(deadline_seconds, self._abandon)
        self._closing = threading.Timer(_CLOSING_SECONDS, self._exit_while_closing)
        self._deadline.daemon = self._closing.daemon = True
        self._has_begun = threading.Lock()
        self._over = False

    def listen(self) -> None:
        """Wait for signals in a thread, which works also while the loop hangs."""
        threading.Thread(target=self._wait_for_signals, name="signals", daemon=True).start()

    async def begin_when_stopped(self) -> None:
        """The deadline holds also if the role ends by itself."""
        await self.stop.wait()
        self.begin()

    def finished_in_order(self) -> None:
        """`main` has returned; only the loop has still to be closed."""
        if self._process_ends:
            self._closing.start()

    def finish(self) -> None:
        """All is closed. A signal ends the process as usual."""
        self._over = True
        self._has_begun.acquire(blocking=False)
        self._deadline.cancel()
        self._closing.cancel()

    def _wait_for_signals(self) -> None:
        stopping = startup.signals_to_stop()
        number = signal.sigwait(stopping)
        if not self._over:
            self.begin()
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self.stop.set)
            number = signal.sigwait(stopping)
            while not (self._at_once or self._over):
                number = signal.sigwait(stopping)
        _log_with_timeout(log.warning, "second signal: ending at once", action="process.interrupted")
        _exit_now(_SIGNAL_EXIT_BASE + number)

    def begin(self) -> None:
        """Start the deadline."""
        if self._has_begun.acquire(blocking=False):
            self._deadline.start()

    def _exit_while_closing(self) -> NoReturn:
        _log_with_timeout(log.warning, _THREADS_LEFT, action="process.threads_left", threads=_threads())
        _exit_now(os.EX_OK)

    def _abandon(self) -> NoReturn:
        if (error := self.stop.error) is not None:  # it will not be raised any more
            _log_with_timeout(sys.excepthook, type(error), error, error.__traceback__)
        _log_with_timeout(
            log.error,
            "the shutdown takes too long: abandoning what it waits for",
            action="process.abandoned",
            seconds=self._deadline_seconds,
            tasks=_tasks(self._loop),
            threads=_threads(),
        )
        _exit_now(ABANDONED)


def _exit_now(code: int) -> NoReturn:
    """End the process and its child processes, without waiting for anything."""
    for child in _children():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(child) == child:
                os.killpg(child, signal.SIGKILL)
            else:
                os.kill(child, signal.SIGKILL)
    os._exit(code)


def _children() -> list[int]:
    """The child processes, as far as this system lists them."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    with suppress(RuntimeError):  # the loop may make new ones during the iteration
        return sorted(task.get_name() for task in asyncio.all_tasks(loop))
    return []


def _threads() -> list[str]:
    """Name and place of each thread, except this one and the one that waits for signals."""
    frames = sys._current_frames()  # noqa: SLF001 -- Python has no other way to look at another thread
    ours = {threading.get_ident()}
    return [
        f"{thread.name}: {place.filename}:{place.lineno} {place.name}"
        for thread in threading.enumerate()
        if thread.ident in frames and thread.ident not in ours and thread.name != "signals"
        for place in traceback.extract_stack(frames[thread.ident])[-1:]
    ]


def _log_with_timeout(write: Callable[..., Any], *arguments: Any, **fields: Any) -> None:
    writer = threading.Thread(target=partial(write, *arguments, **fields), daemon=True)
    writer.start()
    writer.join(_LOG_SECONDS)
