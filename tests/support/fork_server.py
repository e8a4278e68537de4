"""Forks processes of the bridge for `warm_starts`: this process loads Python and the libraries once, not each start.

It has no threads and no event loop. It loads all of the bridge but the command line: that looks at the terminal and at
the environment when it is imported, so each child imports it. A child takes over what a started program would get from
its parent, and then runs `python -m bridge`'s own code, from outside of every function of this module. It ends as Python
does, but does not take apart what this process has loaded.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from typing import NamedTuple, NoReturn

import bridge
from bridge.receiver import durability
from bridge.spool import stall
from tests.support.unprivileged import drop_privileges

MAX_REQUEST_BYTES = 1 << 20
DESCRIPTORS = 4
"""Of a request: standard input, output and error of the child, and a socket that gets its pid and its exit code."""

_NOT_LOADED = (
    "bridge.cli",
    "bridge.__main__",
    "bridge.supervisor.__main__",
    "bridge.suppression.migrations",
    *("bridge.receiver.connection", "bridge.amqp.wire", "bridge.amqp.frames", "bridge.amqp.aiormq_internals"),
)
"""What is imported by each process: the command line, what runs when it is imported, and the fast path."""
_ALSO_LOADED = ("typer", "rich.progress", "aiosqlite", "asyncpg", "encodings.idna")
"""Libraries of the command line, and what others load when they are used. They look at nothing when they are imported."""
_SLOW_DISK_SECONDS = 20.0
"""A disk that takes a second to write is slow, and none that hangs: on a busy machine that happens, and an event that the
test wants spooled would be answered 503. What hangs is tested within the tests' own processes."""
_STOPPED_BY_TERMINAL = {signal.SIGINT}
"""A Ctrl-C ends the tests, and they end this process: it is only for the children."""


class Request(NamedTuple):
    arguments: list[str]
    directory: str
    environment: dict[str, str]
    umask: int
    unprivileged: bool
    """Whether the permissions of files hold for it, even if it is root."""
    program: str
    """Python's text, as `python -c` takes it; empty: `python -m bridge`."""


def main() -> None:
    _load()
    found = _serve(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        request, streams = found
        _become(request, streams)
        try:
            _run(request.program)
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                raise
            _end(end.code or 0)
        _end(0)


def _run(program: str) -> None:
    if program:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 -- the tests' own
    else:
        runpy.run_module("bridge", run_name="__main__", alter_sys=True)


def _end(code: int) -> NoReturn:
    """The end of Python, without its last part: it takes all modules apart, and so copies the memory of this process.

    What the child has made and left is deleted, and so says what it says to the last.

    Raises:
        SystemExit: some output is not written; Python ends it in its own way.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # it waits for threads, as Python does
    atexit._run_exitfuncs()
    gc.collect()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        raise SystemExit(code) from None
    os._exit(code)


def _load() -> None:
    for module in pkgutil.walk_packages(bridge.__path__, "bridge."):
        if not module.name.startswith(_NOT_LOADED):
            importlib.import_module(module.name)
    for library in _ALSO_LOADED:
        importlib.import_module(library)
    stall.STALLED_SECONDS = durability.DISK_TIMEOUT_SECONDS = _SLOW_DISK_SECONDS  # type: ignore[misc]  # constants of the product
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()  # the collector does not touch, and so not copy, the memory that the children share


def _serve(control: socket.socket) -> tuple[Request, list[int]] | None:
    """Fork a child for each request, and report its end.

    Returns:
        In a child its request and its descriptors; here None, when the tests are gone and all children are dead.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPED_BY_TERMINAL)
    children: dict[int, tuple[int, int]] = {}
    ready = select.poll()
    ready.register(control, select.POLLIN)
    while True:
        for descriptor, _ in ready.poll():
            if descriptor in children:
                ready.unregister(descriptor)
                _report_end(descriptor, *children.pop(descriptor))
                continue
            message, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, DESCRIPTORS)
            if not message:
                for pidfd, (pid, reports) in children.items():
                    os.kill(pid, signal.SIGKILL)
                    _report_end(pidfd, pid, reports)
                return None
            *streams, reports = descriptors
            pid = os.fork()
            if pid == 0:
                control.detach()
                return Request(**json.loads(message)), streams
            for stream in streams:
                os.close(stream)
            _report(reports, pid)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, reports
            ready.register(pidfd, select.POLLIN)


def _report_end(pidfd: int, pid: int, reports: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    _report(reports, os.waitstatus_to_exitcode(status))
    os.close(reports)


def _report(reports: int, number: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the test has ended without waiting
        os.write(reports, str(number).encode())


def _become(request: Request, streams: list[int]) -> None:
    """What `exec` and the start of Python would have done."""
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
    os.closerange(len(streams), os.sysconf("SC_OPEN_MAX"))
    _open_standard_streams()
    os.chdir(request.directory)
    os.umask(request.umask)
    if request.unprivileged:
        drop_privileges()
    os.environ.clear()
    os.environ.update(request.environment)
    tempfile.tempdir = None  # it was found in the environment
    sys.path[0] = request.directory
    sys.argv[1:] = request.arguments
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED_BY_TERMINAL)


def _open_standard_streams() -> None:
    """New ones: they know whether they are a terminal, and which encoding Python was started with."""
    for descriptor, (name, mode, buffering) in enumerate(
        (("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1))  # a buffer of 1 is one line
    ):
        old = getattr(sys, name)
        new = os.fdopen(descriptor, mode, buffering, encoding=old.encoding, errors=old.errors, closefd=False)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


if __name__ == "__main__":
    main()
