"""A process that is kept alive, as systemd or Kubernetes does: whenever it ends it is started again."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from tests.programs.others.bridges import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.programs.others.bridges import Command

_AGAIN_SECONDS: Final = 0.5
"""From its end to its next start."""
_STOP_SECONDS: Final = 30.0
"""From SIGTERM to SIGKILL, as in Kubernetes."""


class Service:
    def __init__(self, command: Command, log: Path) -> None:
        """Nothing runs yet.

        Args:
            command: to run.
            log: what it writes is appended here.
        """
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()
        self._may_run = asyncio.Event()
        self.starts = 0
        self.did_not_stop = 0
        """How often it had to be killed after SIGTERM."""

    @classmethod
    @asynccontextmanager
    async def running(cls, command: Command, log: Path) -> AsyncIterator[Self]:
        """It runs, and is started again, for as long as the context lasts."""
        service = cls(command, log)
        keeping = asyncio.create_task(service._keep(), name="service")
        try:
            yield service
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def kill(self) -> None:
        """SIGKILL; it is started again."""
        process = await self._running()
        _signal(process, signal.SIGKILL)
        await process.wait()

    async def terminate(self) -> None:
        """SIGTERM, and SIGKILL where that does not end it; it is started again."""
        process = await self._running()
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self.did_not_stop += 1
            _signal(process, signal.SIGKILL)
            await process.wait()

    async def power_off(self) -> None:
        """SIGKILL; it is not started again before `power_on`."""
        self._may_run.clear()
        await self.kill()

    def power_on(self) -> None:
        self._may_run.set()

    async def _running(self) -> asyncio.subprocess.Process:
        await self._started.wait()
        if self._process is None:
            raise RuntimeError(f"{self._command.arguments} has not been started")
        return self._process

    async def _keep(self) -> None:
        self._may_run.set()
        with self._log.open("ab") as sink:
            while True:
                await self._may_run.wait()
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command.arguments,
                    stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
                    cwd=self._command.folder, env=environment(self._command),
                )  # fmt: skip
                self.starts += 1
                self._started.set()
                try:
                    await process.wait()
                finally:
                    _signal(process, signal.SIGKILL)
                    self._started.clear()
                await asyncio.sleep(_AGAIN_SECONDS)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if process.returncode is None:
            os.kill(process.pid, number)
