"""Processes of the bridge: forked from one that has loaded everything, which costs a tenth of a real start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.fork_server import MAX_REQUEST_BYTES, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ")
"""Begins of the variables that only the start of Python reads."""


class ForkedProcess:
    """The part of `asyncio.subprocess.Process` that tests use."""

    def __init__(
        self,
        reports: socket.socket,
        pid: int,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._ending = asyncio.create_task(self._report_of(reports), name=f"end of {pid}")

    def send_signal(self, number: int) -> None:
        """As `subprocess` does, it leaves one as it is that has ended by itself a moment ago."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def communicate(self) -> tuple[bytes, bytes]:
        stdout, stderr = await asyncio.gather(_all_of(self.stdout), _all_of(self.stderr))
        await self.wait()
        return stdout, stderr

    async def _report_of(self, reports: socket.socket) -> int:
        with reports:
            self.returncode = await _number(reports)
        return self.returncode


async def start_bridge(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    through: Sequence[str] = (),
    fresh: bool = False,
    unprivileged: bool = False,
) -> Process | ForkedProcess:
    """`python -m bridge ARGUMENTS...`.

    Args:
        arguments: of the command.
        cwd: where it runs.
        env: its environment. A forked process cannot have another language, time zone or PYTHON... than this one: if it
            shall, the start is a fresh one.
        stdin: a descriptor, or `DEVNULL`.
        stdout: a descriptor, or `PIPE`, or `DEVNULL`.
        stderr: the same.
        through: a program, and its first arguments, that starts it; the start is a fresh one.
        fresh: start a program, as users do. For tests of the process itself: how Python starts, what `ps` shows of it.
        unprivileged: take from it that root passes over the permissions of files. Not for a fresh start.
    """
    if fresh or through or _read_at_start(env) != _read_at_start(os.environ):
        return await asyncio.create_subprocess_exec(
            *through, sys.executable, "-m", "bridge", *arguments,
            stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env,
        )  # fmt: skip
    request = Request([*arguments], str(cwd), dict(env), _umask(), unprivileged, "")
    return await _fork(request, stdin, stdout, stderr)


async def start_program(program: str, *arguments: str, cwd: Path, stdin: int = DEVNULL) -> ForkedProcess:
    """`python -c PROGRAM ARGUMENTS...`, with all of the bridge loaded; `stdin` is a descriptor, or `DEVNULL`."""
    request = Request([*arguments], str(cwd), dict(os.environ), _umask(), unprivileged=False, program=program)
    return await _fork(request, stdin, PIPE, PIPE)


async def _fork(request: Request, *streams: int) -> ForkedProcess:
    reports, for_server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reports.setblocking(False)  # noqa: FBT003 -- the method takes nothing by name
    with for_server, ExitStack() as stack:
        prepared = [await _prepared(stream, stack) for stream in streams]
        message = json.dumps(request._asdict()).encode()
        assert len(message) < MAX_REQUEST_BYTES
        theirs = [descriptor for descriptor, _ in prepared]
        socket.send_fds(_server().control, [message], [*theirs, for_server.fileno()])
    _, stdout, stderr = (reader for _, reader in prepared)
    return ForkedProcess(reports, await _number(reports), stdout, stderr)


async def _prepared(stream: int, stack: ExitStack) -> tuple[int, asyncio.StreamReader | None]:
    """The descriptor for the child, which is open here until the stack ends; and the reader of a pipe."""
    if stream == PIPE:
        reading, writing = os.pipe()
        stack.callback(os.close, writing)
        return writing, await _reader(reading)
    if stream == DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        stack.callback(os.close, null)
        return null, None
    return stream, None


class _Server:
    """The process that forks; it ends with the process that has started it."""

    def __init__(self) -> None:
        self.control, for_server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with for_server:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(for_server.fileno())],
                cwd=_ROOT, pass_fds=[for_server.fileno()], stdin=DEVNULL, stdout=DEVNULL,
            )  # fmt: skip

    def stop(self) -> None:
        self.control.close()
        self._process.wait()


_server = cache(_Server)


def stop_server() -> None:
    """End the server, and all processes that it has forked, if there is one."""
    if _server.cache_info().currsize:
        _server().stop()
        _server.cache_clear()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader


async def _all_of(reader: asyncio.StreamReader | None) -> bytes:
    return await reader.read() if reader is not None else b""


async def _number(reports: socket.socket) -> int:
    """What the server reports next: first the pid, then the exit code, or the number of a signal below 0."""
    said = await asyncio.get_running_loop().sock_recv(reports, 32)
    assert said, "the fork server has ended"
    return int(said)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _umask() -> int:
    """Of this process. The kernel shows it; `os.umask` would have to change it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise AssertionError("Linux shows it")
