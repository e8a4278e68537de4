"""Real processes of the bridge: started as an operator would, watched through their log, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import orjson

from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from asyncio.subprocess import Process as ExecutedProcess
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.warm_starts import ForkedProcess

PATIENCE_SECONDS = 90


class Process:
    """One role, and the events of its log."""

    def __init__(self, process: ExecutedProcess | ForkedProcess) -> None:
        self._process = process
        self.lines: list[str] = []
        """Standard error."""
        self.printed: list[str] = []
        """Standard output."""
        self._events: list[dict[str, Any]] = []
        self._grew = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())
        self._printing = asyncio.create_task(self._read_printed())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def failures(self) -> list[str]:
        """Why it ended, in its own words; and what it wrote that is no event of its log."""
        told = [event["message"] for event in self._events if event.get("action") == "process.cannot_run"]
        return told + [line for line in self.lines if not line.startswith("{")]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill_now(self) -> None:
        """One that has ended by itself a moment ago is left as it is."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def ended(self, *, patience: float | None = PATIENCE_SECONDS) -> int:
        """Its exit code, when it has ended; None: however long that takes."""
        async with asyncio.timeout(patience):
            code = await self._process.wait()
            await self._reading
            await self._printing
        return code

    async def says(
        self, action: str, *, times: int = 1, patience: float = PATIENCE_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        """The first log event with this action and these fields, or the second, …, when it has come."""
        wanted = fields | {"action": action}
        try:
            async with asyncio.timeout(patience), self._grew:
                while True:
                    said = [event for event in self._events if wanted.items() <= event.items()]
                    if len(said) >= times:
                        return said[times - 1]
                    if self._reading.done():
                        raise AssertionError(f"ended without saying {action}: {self.lines}")
                    await self._grew.wait()
        except TimeoutError:
            raise AssertionError(f"did not say {action} in {patience:g} s: {self.lines}") from None

    async def writes(self, part: str, *, patience: float = PATIENCE_SECONDS) -> str:
        """The first line of its standard error that contains this, when it has come."""
        async with asyncio.timeout(patience), self._grew:
            while True:
                for line in self.lines:
                    if part in line:
                        return line
                if self._reading.done():
                    raise AssertionError(f"ended without writing {part}: {self.lines}")
                await self._grew.wait()

    async def prints(self, part: str, *, patience: float = PATIENCE_SECONDS) -> str:
        """The first line of its standard output that contains this, when it has come."""
        async with asyncio.timeout(patience), self._grew:
            while True:
                for line in self.printed:
                    if part in line:
                        return line
                if self._printing.done():
                    raise AssertionError(f"ended without printing {part}: {self.printed} {self.lines}")
                await self._grew.wait()

    async def _read_printed(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        async for line in stream:
            async with self._grew:
                self.printed.append(line.decode().rstrip())
                self._grew.notify_all()
        asyncio.get_running_loop().call_soon(asyncio.create_task, self._notify())

    async def _read(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        async for line in stream:
            async with self._grew:
                self.lines.append(line.decode().rstrip())
                if line.startswith(b"{"):
                    self._events.append(orjson.loads(line))
                self._grew.notify_all()
        asyncio.get_running_loop().call_soon(asyncio.create_task, self._notify())

    async def _notify(self) -> None:
        async with self._grew:
            self._grew.notify_all()


class Processes:
    """Starts roles, each with a settings file of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Process] = []
        self._numbers = count()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._started:
            process.kill_now()
        for process in self._started:
            await process.ended()

    async def start(
        self,
        *arguments: str,
        overrides: Mapping[str, Any],
        through: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        fresh: bool = False,
    ) -> Process:
        """`python -m bridge --config FILE ARGUMENTS...`, with these settings in the file.

        Args:
            arguments: of the command.
            overrides: the settings.
            through: a program, and its first arguments, that starts it.
            environment: further variables.
            fresh: as in `start_bridge`.
        """
        config = self._directory / f"settings-{next(self._numbers)}.toml"
        config.write_text(_toml(overrides))
        process = await start_bridge(
            "--config", str(config), *arguments,
            cwd=self._directory, env=os.environ | environment, through=through, fresh=fresh,
        )  # fmt: skip
        started = Process(process)
        self._started.append(started)
        return started


def _toml(overrides: Mapping[str, Any]) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's as well; a list of sections is an array of tables."""
    lines = []
    for section, values in overrides.items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
            lines += [f"{name} = {orjson.dumps(value).decode()}" for name, value in table.items()]
    return "\n".join(lines)
