"""The programs that measure: whatever ends them leaves no process, and no file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.eventually import eventually
from tests.support.masks import signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT: Final = Path(__file__).parents[2]
FIGURES: Final = ("-m", "tests.programs.faults.figures", "--only", "slow clients")

DAEMON: Final = """
import os, time
from tests.programs import program

def main() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    print(os.getpid(), flush=True)
    {then}

program.run(main)
"""
"""A program whose daemon, as Erlang's port mapper, is no child of its own."""


class Started:
    """A program with all of its processes, which a variable marks, wherever they are."""

    def __init__(self, process: asyncio.subprocess.Process, marker: str, folder: Path) -> None:
        self.front = process
        self.folder = folder
        self._marker = marker.encode()

    def running(self, name: str = "") -> list[int]:
        """Its processes whose command line contains this."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (
                    self._marker in (entry / "environ").read_bytes()
                    and name.encode() in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
        return found

    def left(self) -> tuple[list[int], list[Path]]:
        """Processes and files."""
        return self.running(), list(self.folder.iterdir())


class Programs:
    def __init__(self, folder: Path) -> None:
        self.started: list[Started] = []
        self._folder = folder

    async def start(self, *arguments: str) -> Started:
        """In a process group of its own, as make's is."""
        marker = f"STARTED_BY={uuid.uuid4()}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments,
            cwd=ROOT, env=os.environ | dict([marker.split("=")]) | {"TMPDIR": str(self._folder)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.started.append(Started(process, marker, self._folder))
        return self.started[-1]


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    started = Programs(tmp_path)
    yield started
    for one in started.started:
        for pid in one.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await one.front.wait()


async def test_sigterm_to_the_group_ends_all_in_order(programs: Programs) -> None:
    """A real run, while its RabbitMQ is starting: as `timeout` and CI end what make runs."""
    program = await programs.start(*FIGURES)
    await eventually(lambda: program.running("beam") != [])
    os.killpg(program.front.pid, signal.SIGTERM)
    assert await program.front.wait() == 128 + signal.SIGTERM
    assert program.left() == ([], [])


async def test_sigkill_of_a_program_ends_what_it_has_started(programs: Programs) -> None:
    """Of the process that whoever started it knows; nobody is left to wait for."""
    program = await programs.start(*FIGURES)
    await eventually(lambda: program.running("beam") != [])
    program.front.kill()
    await program.front.wait()
    await eventually(lambda: program.left() == ([], []))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_ends_daemons_too(programs: Programs, number: signal.Signals) -> None:
    """To the one process that whoever started it knows."""
    program = await programs.start("-c", DAEMON.format(then="time.sleep(600)"))
    assert program.front.stdout is not None
    await program.front.stdout.readline()
    # The front comes to that after it has forked the others, who may be faster. SIGHUP is the last one.
    await eventually(lambda: signal.SIGHUP in signals(program.front.pid, "SigCgt"))
    program.front.send_signal(number)
    assert await program.front.wait() == 128 + number
    assert program.left() == ([], [])


async def test_sigkill_of_the_work_ends_what_it_has_started(programs: Programs) -> None:
    """Whose exit code is that of a shell."""
    program = await programs.start("-c", DAEMON.format(then="time.sleep(600)"))
    assert program.front.stdout is not None
    os.kill(int(await program.front.stdout.readline()), signal.SIGKILL)
    assert await program.front.wait() == 128 + signal.SIGKILL
    assert program.left() == ([], [])


@pytest.mark.parametrize("code", [0, 3])
async def test_the_exit_code_is_that_of_the_command(programs: Programs, code: int) -> None:
    """With a daemon that is left, and ended."""
    program = await programs.start("-c", DAEMON.format(then=f"raise SystemExit({code})"))
    assert await program.front.wait() == code
    assert program.left() == ([], [])
