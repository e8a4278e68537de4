"""Load from a process of its own, wrk where it is installed, and what came of it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tests.programs.bench import mix

CHECKOUT: Final = Path(__file__).parents[3]
CONNECTIONS: Final = 64
_SCRIPT: Final = Path(__file__).with_name("mix.lua")
_RESULT: Final = b"RESULT "
_IDS_OF_A_RUN: Final = 10_000_000
"""More than are sent in one run, so that none is sent twice."""
_PATIENCE_SECONDS: Final = 30.0
_WRK_TIMEOUT_SECONDS: Final = 2.0
"""wrk's own default."""


class LoadError(RuntimeError):
    """The load could not be run. Its message has what the generator said."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one run; times in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    worst: float
    wrong: dict[str, int]
    """Answers that were no 2xx, and what befell connections -> how many."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Load:
    """Runs of load on one path, one after the other, with ids that never repeat."""

    def __init__(self, directory: Path, path: str) -> None:
        self._path = path
        self._requests = directory / "requests.lua"
        self._requests.write_text(mix.as_lua(path))
        self._next_id = mix.FIRST_ID
        self.wrk = shutil.which("wrk")
        """Where wrk is, if it is."""

    async def closed(
        self,
        port: int,
        *,
        seconds: int,
        connections: int = CONNECTIONS,
        patience: float = _WRK_TIMEOUT_SECONDS,
    ) -> Answers:
        """As fast as it is answered.

        Args:
            port: of the receiver.
            seconds: for how long.
            connections: how many at once.
            patience: seconds after which wrk counts an answer as wrong.

        Raises:
            LoadError: it could not be run.
        """
        if self.wrk is None:
            return await self._own(port, seconds, rate=0, connections=connections)
        return await _run(
            self.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{patience:g}s", "-s", str(_SCRIPT),
            f"http://127.0.0.1:{port}{self._path}", "--", str(self._requests), str(self._ids()),
            patience=seconds + _PATIENCE_SECONDS,
        )  # fmt: skip

    async def open(self, port: int, *, seconds: int, rate: float) -> Answers:
        """At a constant rate, whatever is answered; times are from when a request was due.

        Raises:
            LoadError: it could not be run, or an answer never came.
        """
        return await self._own(port, seconds, rate=rate)

    async def _own(self, port: int, seconds: int, *, rate: float, connections: int = CONNECTIONS) -> Answers:
        return await _run(
            sys.executable, "-m", "tests.programs.bench.generator", str(port), self._path, str(seconds),
            "--rate", str(rate), "--connections", str(connections), "--first-id", str(self._ids()),
            patience=seconds + _PATIENCE_SECONDS,
        )  # fmt: skip

    def _ids(self) -> int:
        first, self._next_id = self._next_id, self._next_id + _IDS_OF_A_RUN
        return first


async def _run(*command: str, patience: float) -> Answers:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=CHECKOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            said, _ = await process.communicate()
    except TimeoutError:
        raise LoadError(f"{command[0]} did not end in {patience:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for line in said.splitlines():
        if line.startswith(_RESULT):
            return _answers(orjson.loads(line.removeprefix(_RESULT)))
    raise LoadError(f"{' '.join(command)}: {said.decode().strip()}")


def _answers(result: dict[str, int | dict[str, int]]) -> Answers:
    wrong = result.pop("wrong")
    requests = result.pop("requests")
    assert isinstance(wrong, dict)
    assert isinstance(requests, int)
    times = {name: value / 1e6 for name, value in result.items() if isinstance(value, int)}
    return Answers(
        requests=requests,
        seconds=times["microseconds"],
        p50=times["p50"],
        p99=times["p99"],
        worst=times["worst"],
        wrong={what: count for what, count in wrong.items() if count},
    )
