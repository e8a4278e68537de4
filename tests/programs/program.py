"""Programs that start others and are ended at any time: what they have started ends with them, and so do their files.

Three processes: the front, which whoever starts the program sees and signals; the guard, in a session of its own; and
the one that does the work, whose orphaned children become the guard's. The guard outlives the other two:

- A signal to the front, or its death by SIGKILL, too, ends the work as Ctrl-C would.
- When the work has ended, in whatever way, the guard ends all processes that are left, and removes the temporary folder.
- The death of the guard ends the work as Ctrl-C would.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING_SECONDS: Final = 90.0
"""How long the work may take to end in order: a RabbitMQ and a PostgreSQL, one after the other."""
_REST_SECONDS: Final = 5.0
"""From SIGTERM to SIGKILL, for what is left after the work."""
_SIGNAL_EXIT_BASE: Final = 128
_TO_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SET_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
"""Options of prctl(2)."""


def run(main: Callable[..., Any], *, patience: float = _ENDING_SECONDS, ends_all: bool = True) -> None:
    """Run a function as the command of this program.

    Args:
        main: for Typer.
        patience: seconds that its orderly end may take. Then it is killed.
        ends_all: whether the processes that are left after it are ended. Not where one of them serves others, too, such
            as a Docker engine that was started for the first of them.

    Raises:
        SystemExit: with the exit code of the command; 128 + the number of the signal that has ended it.
    """
    folder = Path(tempfile.mkdtemp(prefix="bridge-program-"))
    reader, writer = os.pipe()
    if (guard := os.fork()) != 0:
        os.close(reader)
        sys.exit(_front(guard, writer))
    os.close(writer)
    os.setsid()
    _control(_SET_CHILD_SUBREAPER, 1)
    own = os.getpid()
    if (work := os.fork()) != 0:
        code = 1
        try:
            code = _guard(work, reader, patience, ends_all=ends_all)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os._exit(code)
    os.close(reader)
    _end_in_order_with(own)
    # PostgreSQL may run as another user, who has to get to a folder in it.
    folder.chmod(0o711)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    command = typer.Typer(pretty_exceptions_enable=False)
    command.command()(main)
    command()


def _front(guard: int, writer: int) -> int:
    """Wait for the end. A signal closes the pipe, and so does the death of this process."""
    ended_by: list[int] = []

    def end(number: int, _: object) -> None:
        if not ended_by:
            os.close(writer)
        ended_by.append(number)

    for number in _TO_STOP:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    _, status = os.waitpid(guard, 0)
    if ended_by:
        return _SIGNAL_EXIT_BASE + ended_by[0]
    return os.waitstatus_to_exitcode(status)


def _end_in_order_with(guard: int) -> None:
    """Each signal to stop acts like Ctrl-C, also where the program was started with SIGINT ignored, as in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    _control(_SET_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != guard:  # it has died before
        sys.exit(1)


def _guard(work: int, front: int, patience: float, *, ends_all: bool) -> int:
    """Returns the exit code of the work, when nothing of it is left."""
    for number in _TO_STOP:
        signal.signal(number, signal.SIG_IGN)
    deaths, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    code = _waited(work, deaths, front)
    if code is None:
        os.kill(work, signal.SIGINT)
        code = _waited(work, deaths, seconds=patience)
    if code is None:
        os.kill(work, signal.SIGKILL)
        code = _waited(work, deaths)
    if ends_all:
        _end_the_rest(deaths)
    assert code is not None
    return code if code >= 0 else _SIGNAL_EXIT_BASE - code


def _waited(work: int, deaths: int, front: int | None = None, *, seconds: float | None = None) -> int | None:
    """The work's exit code when it has ended, as `waitstatus_to_exitcode` has it; None when the front or the time ends first."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while (code := _reaped().get(work)) is None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([deaths] if front is None else [deaths, front], [], [], left)
        if deaths not in ready:
            return None
        os.read(deaths, 4096)
    return code


def _end_the_rest(deaths: int) -> None:
    """All that the work has left: first asked, then killed."""
    for number, seconds in ((signal.SIGTERM, _REST_SECONDS), (signal.SIGKILL, None)):
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            _reaped()
            if not (left_over := _children()):
                return
            for child in left_over:
                with suppress(ProcessLookupError):
                    os.kill(child, number)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            if select.select([deaths], [], [], left)[0]:
                os.read(deaths, 4096)


def _reaped() -> dict[int, int]:
    """Children that have ended since -> their exit codes."""
    found = {}
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return found


def _children() -> list[int]:
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _control(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
