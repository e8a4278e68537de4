"""A process under valgrind whose instructions are counted, from outside and at any time."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.settings.sources import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

CHECKOUT: Final = Path(__file__).parents[3]
PYTHON_VARIABLES: Final = "PYTHON"
_PLAIN_CPU: Final = "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM"
"""The C library has several ways to copy memory, and takes the one that suits the processor."""
_AT_REST_SECONDS: Final = 0.4
_LOOK_EVERY_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 1200.0
_COUNTED: Final = re.compile(r"^events-\d+: (\d+)$", re.MULTILINE)
_FUNCTION: Final = re.compile(r"^ *([\d,]+) \([ \d.]+%\)  (?!PROGRAM TOTALS)(\S+)", re.MULTILINE)
# Of /proc/PID/task/TID/stat, counted from behind the name (proc_pid_stat(5), less three).
_STATE, _USER, _SYSTEM = 0, 11, 12
_STOPPED, _ENDED, _ASLEEP = "T", "Z", "S"
_STOPPING_SECONDS: Final = 0.0005
_LOOKS_ASLEEP: Final = 4
"""In a row: threads are looked at one after the other, and one may wake another meanwhile."""


class CostError(RuntimeError):
    """Something cannot be measured. The message says what, why, and what to do."""


def instructions_of(status: str) -> int:
    """The instructions of all threads, in what callgrind answers to `status internal`.

    Raises:
        CostError: it says nothing of them.
    """
    counted = _COUNTED.findall(status)
    if not counted:
        raise CostError(f"callgrind does not say how many instructions it has counted: {status[:400]!r}")
    return sum(map(int, counted))


def functions_of(annotated: str, events: int) -> list[tuple[float, str]]:
    """Of what callgrind_annotate prints: instructions for each event, and the function, most first."""
    found = _FUNCTION.findall(annotated)
    return [(int(count.replace(",", "")) / events, name.rpartition("/")[2]) for count, name in found]


def missing() -> str | None:
    """What has to be installed and is not, if anything."""
    absent = [name for name in ("valgrind", "vgdb", "callgrind_annotate") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (Debian's package valgrind)" if absent else None


class Counted:
    """The process. It is counted from `instrument` on."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.log = folder / "output.log"

    @classmethod
    @asynccontextmanager
    async def running(
        cls, module: str, *arguments: str, folder: Path, environment: Mapping[str, str]
    ) -> AsyncIterator[Counted]:
        """`python -m MODULE ARGUMENTS...` under valgrind, which is killed when the context ends.

        Args:
            module: what is run.
            arguments: its own.
            folder: a new one, for its files.
            environment: on top of what this process has without settings of the bridge and of Python.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((ENVIRONMENT_PREFIX, PYTHON_VARIABLES))
        }
        fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(CHECKOUT), "GLIBC_TUNABLES": _PLAIN_CPU}
        with (folder / "output.log").open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *_same_addresses(), "valgrind", "--tool=callgrind", "--instr-atstart=no",
                f"--callgrind-out-file={folder / 'callgrind.out'}", f"--log-file={folder / 'valgrind.log'}",
                f"--vgdb-prefix={folder / 'vgdb'}",
                sys.executable, "-m", "tests.programs.cost.launcher", module, *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder,
                env={**inherited, **fixed, **environment},
            )  # fmt: skip
        counted = cls(process, folder)
        try:
            yield counted
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def pause(self) -> None:
        """Stop it as soon as it sleeps; returns when it has stopped, whatever the machine does beside it.

        It blocks for so long. A process that is stopped while it still works would find what it is given then earlier than
        another time.
        """
        while not self.sleeps():
            time.sleep(_STOPPING_SECONDS)
        self._process.send_signal(signal.SIGSTOP)
        while not _states(self._process.pid) <= {_STOPPED, _ENDED}:
            time.sleep(_STOPPING_SECONDS)

    def sleeps(self) -> bool:
        """Whether all its threads wait for something, and not for each other."""
        return all(_states(self._process.pid) <= {_ASLEEP, _ENDED} for _ in range(_LOOKS_ASLEEP))

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def hold_timers(self) -> None:
        """From now on nothing happens only because time passes. It has to run: earlier the signal would end it."""
        self._process.send_signal(signal.SIGUSR2)

    async def collect(self) -> None:
        """Let Python collect garbage now, so that it is as long until the next time in each run."""
        self._process.send_signal(signal.SIGUSR1)
        await self.rest()

    async def instrument(self) -> None:
        """Count from here on. Until then it runs some ten times as fast."""
        await self._ask("instrumentation", "on")

    async def instructions(self) -> int:
        """How many have been executed so far, by all threads."""
        return instructions_of(await self._ask("status", "internal"))

    async def begin_part(self) -> None:
        """From here on its functions are counted anew."""
        await self._ask("dump")

    async def functions(self) -> str:
        """What callgrind_annotate says of those since the beginning of the part."""
        await self._ask("dump")
        files = await asyncio.to_thread(lambda: list(self._folder.glob("callgrind.out.*")))
        last = max(files, key=lambda file: int(file.suffix[1:]))
        annotating = await asyncio.create_subprocess_exec(
            "callgrind_annotate", str(last), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await annotating.communicate()
        return said.decode(errors="replace")

    async def rest(self) -> None:
        """Wait until it does nothing any more."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        quiet_since, used = None, -1
        while True:
            self.check()
            now, running, used_now = asyncio.get_running_loop().time(), *_activity(self._process.pid)
            if running or used_now != used:
                quiet_since = None
            elif quiet_since is None:
                quiet_since = now
            elif now - quiet_since > _AT_REST_SECONDS:
                return
            used = used_now
            if now > deadline:
                raise CostError(f"it does not come to rest within {_PATIENCE_SECONDS:g} s; see {self.log}")
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def says(self, part: str) -> None:
        """Wait until its log has this."""
        while part not in await asyncio.to_thread(self.log.read_text, errors="replace"):
            self.check()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def check(self) -> None:
        """Raises CostError: it has ended."""
        if self._process.returncode is not None:
            said = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise CostError(f"it ended with {self._process.returncode}:\n{said}")

    async def _ask(self, *command: str) -> str:
        asked = await asyncio.create_subprocess_exec(
            "vgdb", f"--vgdb-prefix={self._folder / 'vgdb'}", f"--pid={self._process.pid}", *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asked.communicate()
        if asked.returncode:
            self.check()
            raise CostError(f"vgdb {' '.join(command)} failed: {said.decode(errors='replace').strip()}")
        return said.decode(errors="replace")


def _same_addresses() -> tuple[str, ...]:
    """Where a container forbids it, addresses are others in each run, and the figures differ a little more."""
    allowed = (
        shutil.which("setarch") and subprocess.run(["setarch", "-R", "true"], check=False).returncode == 0
    )
    return ("setarch", "-R") if allowed else ()


def _activity(pid: int) -> tuple[bool, int]:
    """Whether any of its threads runs or wants to, and the ticks of CPU that all have used."""
    threads = list(_threads(pid))
    running = any(fields[_STATE] != _ASLEEP for fields in threads)
    return running, sum(int(fields[_USER]) + int(fields[_SYSTEM]) for fields in threads)


def _states(pid: int) -> set[str]:
    return {fields[_STATE] for fields in _threads(pid)}


def _threads(pid: int) -> Iterator[list[str]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            yield (task / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
