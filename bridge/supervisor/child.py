"""One place in the crew, as the supervisor sees it: a process, and after its death another one."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.roles.shutdown import ABANDONED
from bridge.settings.sections import InvalidSettingsError
from bridge.supervisor.child_config import BAD_SETTINGS, REFUSED
from bridge.telemetry import logs

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.supervisor.child_config import Order
    from bridge.telemetry.multiprocess import SharedMetrics

log = logs.logger("crew")

_STEADY_SECONDS: Final = 10.0
"""A process that lived so long is replaced at once; one that did not is replaced later and later."""
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_ENDING_SECONDS: Final = 3.5
"""What a process may take to end beyond `receiver.drain_timeout` before it is killed: more than it takes by itself, and
less than the supervisor has."""


class CrewError(RuntimeError):
    """The processes cannot do their work, and starting others would not mend it. Its message is one line."""


class _DiedError(Exception):
    """A process died soon after its start, or could not be started."""


class Child:
    """Keeps one process running."""

    def __init__(self, order: Order, metrics: SharedMetrics) -> None:
        """Make one that rests until `keep`.

        Args:
            order: what each process of this place is told.
            metrics: where its restarts are counted, and where it is forgotten when it has died.
        """
        self._order = order
        self._metrics = metrics
        self._patience = order.settings.receiver.drain_timeout + _ENDING_SECONDS
        self.pid: int | None = None
        """Of the process that runs now, if one does."""
        self.was_late = False
        """Whether it did not end in time when it was to stop."""

    @property
    def number(self) -> int:
        return self._order.number

    @property
    def health_socket(self) -> Path:
        return self._order.health_socket

    async def keep(self) -> None:
        """Start a process, and another one whenever it dies; cancelling ends it in order.

        Raises:
            InvalidSettingsError: the process says that it cannot work with these settings.
            CrewError: the process says that it cannot work, whoever starts it.
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
        """One process from its start to its death, which is no error when it has lived for a while."""
        began = time.monotonic()
        async with self._process() as process:
            said = await process.stdout.read() if process.stdout else b""
            code = await process.wait()
        if code == BAD_SETTINGS:
            raise InvalidSettingsError(said.decode())
        if code == REFUSED:
            raise CrewError(said.decode())
        self._metrics.restarts.inc()
        log.error(
            "a receiver's process has died: another one takes its place",
            action="receiver.child_died",
            process=self.number,
            pid=process.pid,
            exit_code=code,
        )
        if time.monotonic() - began < _STEADY_SECONDS:
            raise _DiedError

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        """A process that has its order; it ends with the context, at the latest.

        Its standard input stays open for as long as it is to live. It has a session of its own: Ctrl-C in a terminal,
        which goes to a whole process group, is for the supervisor to pass on.
        """
        process = await self._spawn()
        self.pid = process.pid
        log.info(
            "a receiver's process starts",
            action="receiver.child_started",
            process=self.number,
            pid=process.pid,
        )
        try:
            if process.stdin:
                process.stdin.write(self._order.packed())
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
                "a receiver's process cannot be started: it is tried again",
                action="receiver.child_failed",
                process=self.number,
                reason=str(error),
            )
            raise _DiedError from error

    async def _end(self, process: Process) -> None:
        if process.stdin:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                self.was_late |= await process.wait() == ABANDONED
                return
        self.was_late = True
        log.error(
            "a receiver's process did not end: killed",
            action="receiver.child_killed",
            process=self.number,
            pid=process.pid,
        )
        process.kill()
        await process.wait()

    def _environment(self) -> dict[str, str]:
        """Ours, and that it imports what we import, wherever it was started: the folder we are in is not searched."""
        return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
