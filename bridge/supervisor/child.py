"""A child of the supervisor: one receiver process, which is replaced when it dies."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.roles.shutdown import ABANDONED
from bridge.settings.errors import InvalidSettingsError
from bridge.supervisor.child_config import EXIT_BAD_SETTINGS, EXIT_REFUSED
from bridge.telemetry import logs

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.supervisor.child_config import ChildConfig
    from bridge.telemetry.multiprocess import SharedMetrics

log = logs.logger("supervisor")

_STEADY_SECONDS: Final = 10.0
"""A process that has run for this time is replaced at once; for others the backoff grows."""
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_ENDING_SECONDS: Final = 3.5
"""How long a process may take to end beyond `receiver.drain_timeout` before it is killed. This is more than its own
deadline, and less than the supervisor's."""


class SupervisorError(RuntimeError):
    """The receiver processes cannot work, and a restart would not help. The message is one line."""


class _DiedError(Exception):
    """A process died soon after its start, or could not be started."""


class Child:
    """Keeps one process running."""

    def __init__(self, config: ChildConfig, metrics: SharedMetrics) -> None:
        """Make a child that does nothing until `keep_running`.

        Args:
            config: the config of each of its processes.
            metrics: counts its restarts, and drops the gauges of a dead process.
        """
        self._config = config
        self._metrics = metrics
        self._deadline_seconds = config.settings.receiver.drain_timeout + _ENDING_SECONDS
        self.pid: int | None = None
        """The id of the running process; None if there is none."""
        self.ended_late = False
        """Whether a process did not end in time when it was stopped."""

    @property
    def number(self) -> int:
        """From 1; a process that replaces another one has the same number."""
        return self._config.number

    @property
    def health_socket(self) -> Path:
        """The Unix socket of the process's health."""
        return self._config.health_socket

    async def keep_running(self) -> None:
        """Start a process, and another one whenever it dies. A cancellation stops it in order.

        Raises:
            InvalidSettingsError: the process reports that it cannot work with these settings.
            SupervisorError: the process reports that it cannot work, and that a restart would not help.
        """
        while True:
            async for attempt in self._retrying():
                with attempt:
                    await self._once()

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(_DiedError),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS),
            reraise=True,
        )

    async def _once(self) -> None:
        """Run one process until its death, which is an error only soon after its start."""
        began = time.monotonic()
        async with self._process() as process:
            said = await process.stdout.read() if process.stdout else b""
            code = await process.wait()
        if code == EXIT_BAD_SETTINGS:
            raise InvalidSettingsError(said.decode())
        if code == EXIT_REFUSED:
            raise SupervisorError(said.decode())
        self._metrics.restarts.inc()
        log.error(
            "a receiver process has died: starting another one",
            action="receiver.child_died",
            process=self.number,
            pid=process.pid,
            exit_code=code,
        )
        if time.monotonic() - began < _STEADY_SECONDS:
            raise _DiedError

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        """A process that has its config. It is ended with the context.

        It stops when its standard input is closed. It has a session of its own, so that Ctrl-C in a terminal, which goes to
        a whole process group, reaches only the supervisor.
        """
        process = await self._spawn()
        self.pid = process.pid
        log.info(
            "a receiver process has been started",
            action="receiver.child_started",
            process=self.number,
            pid=process.pid,
        )
        try:
            if process.stdin:
                process.stdin.write(self._config.packed())
                with suppress(ConnectionError):
                    await process.stdin.drain()
            yield process
        finally:
            await self._end(process)
            self.pid = None
            self._metrics.forget(self.number)

    async def _spawn(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "bridge.supervisor",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip
        except OSError as error:  # no memory, for example: the others go on
            log.error(  # noqa: TRY400 -- the reason says it all
                "a receiver process cannot be started: trying again",
                action="receiver.child_failed",
                process=self.number,
                reason=str(error),
            )
            raise _DiedError from error

    async def _end(self, process: Process) -> None:
        if process.stdin:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_seconds):
                self.ended_late |= await process.wait() == ABANDONED
                return
        self.ended_late = True
        log.error(
            "a receiver process did not end in time: killed",
            action="receiver.child_killed",
            process=self.number,
            pid=process.pid,
        )
        process.kill()
        await process.wait()

    def _environment(self) -> dict[str, str]:
        """Our environment, with our import path: the process does not search the working directory."""
        return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
