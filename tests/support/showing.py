"""What commands of the bridge write to a terminal: one after the other in one process, and those that stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.commands import environment_without_settings
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

_PATIENCE_SECONDS = 90
_END = "=== end of "

_ALL = f"""
import json, sys
from bridge.cli.main import app
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments, prog_name="bridge")
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    print("{_END}" + json.dumps([" ".join(arguments), code]), flush=True)
"""


async def shown(
    commands: Sequence[Sequence[str]], *, directory: Path, terminal: bool, variables: Mapping[str, str]
) -> dict[str, tuple[int, str]]:
    """Each command's exit code, and all that it wrote.

    Args:
        commands: their arguments.
        directory: where they run.
        terminal: whether they write to a terminal, which has no colours; else to a pipe.
        variables: their settings; the environment has no others.
    """
    return await asyncio.to_thread(_shown, commands, directory, variables, terminal=terminal)


def _shown(
    commands: Sequence[Sequence[str]], directory: Path, variables: Mapping[str, str], *, terminal: bool
) -> dict[str, tuple[int, str]]:
    reading, writing = os.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", _ALL, json.dumps(commands)],
        stdin=subprocess.DEVNULL, stdout=writing, stderr=writing,
        cwd=directory, env=environment_without_settings() | {"TERM": "dumb", "COLUMNS": "300"} | dict(variables),
    ) as process:  # fmt: skip
        os.close(writing)
        written = _everything(reading)
        os.close(reading)
        assert process.wait(_PATIENCE_SECONDS) == 0, written
    # A terminal makes CR LF of LF, and so CR CR LF of the end of a line of CSV.
    return dict(_divided(written.replace("\r\r\n", "\n").replace("\r\n", "\n")))


def _everything(reading: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(reading, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


def _divided(written: str) -> list[tuple[str, tuple[int, str]]]:
    divided = []
    lines: list[str] = []
    for line in written.split("\n"):
        if line.startswith(_END):
            command, code = json.loads(line.removeprefix(_END))
            divided.append((command, (code, "\n".join(lines))))
            lines = []
        else:
            lines.append(line)
    assert not any(lines), lines
    return divided


async def shown_while(
    arguments: Sequence[str],
    *,
    directory: Path,
    variables: Mapping[str, str],
    ready: str,
    act: Callable[[str], Awaitable[None]],
    until: str,
) -> str:
    """All that a command which stays writes to a terminal.

    Args:
        arguments: its own.
        directory: where it runs.
        variables: its settings; the environment has no others.
        ready: what it writes when it can be acted upon.
        act: called then, with what was written so far.
        until: what it writes last; then it is ended by Ctrl-C.
    """
    master, terminal = os.openpty()
    process = await start_bridge(
        *arguments, stdout=terminal, stderr=terminal,
        cwd=directory, env=environment_without_settings() | {"TERM": "dumb", "COLUMNS": "300"} | dict(variables),
    )  # fmt: skip
    os.close(terminal)
    written = _Written()
    reading = asyncio.create_task(asyncio.to_thread(_read_into, master, written, asyncio.get_running_loop()))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await written.has(ready)
            await act(written.text())
            await written.has(until)
            process.send_signal(signal.SIGINT)
            await process.wait()
    except TimeoutError:
        raise AssertionError(f"it has not written {ready} and {until}: {written.text()}") from None
    finally:
        if process.returncode is None:
            process.kill()
        await reading
        os.close(master)
    assert process.returncode == 0, written.text()
    return written.text()


class _Written:
    def __init__(self) -> None:
        self._bytes = bytearray()
        self._more = asyncio.Event()

    def text(self) -> str:
        return self._bytes.decode().replace("\r\n", "\n")

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        self._more.set()

    async def has(self, part: str) -> None:
        while part.encode() not in self._bytes:
            self._more.clear()
            await self._more.wait()


def _read_into(terminal: int, written: _Written, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            return
        if not chunk:
            return
        loop.call_soon_threadsafe(written.add, chunk)
