"""A spool of more and more events: what it costs to start with it, to put one more in, and to drain it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.spool.folder import possible_paths
from bridge.spool.spool_file import SpoolFile
from tests.programs.bench.growth_curves import Curve, curve
from tests.programs.bench.growth_spool_child import RESULT, body
from tests.programs.bench.load import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
PUTS: Final = 4_000
_PART: Final = "spool, events in it"
_AT: Final = 1_700_000_000_000_000
"""The first id, microseconds: before those of events that are put now."""


@dataclass(frozen=True, slots=True)
class _Taken:
    size: int
    found: dict[str, Any]
    broker_cpu: float
    """Seconds of RabbitMQ while the child ran."""

    def cpu_us(self, step: str, units: int) -> float:
        return float(self.found[step]["cpu"] / units * 1e6)


async def measure(place: Place, *, sizes: Sequence[int], say: Say) -> list[Curve]:
    """Fill a spool of each size, and let a process start with it, put and drain.

    Raises:
        RuntimeError: the process has failed, or not all was drained.
    """
    taken = []
    for size in sizes:
        await place.clean()
        folder = place.directory()
        await asyncio.to_thread(_fill, folder, size)
        before = place.broker.cpu
        found = await _of_child(folder, place.node.url)
        await place.rest()
        taken.append(_Taken(size, found, place.broker.cpu - before))
        say(f"spool of {size:,}: {found}")
    return list(_curves(taken))


def _curves(taken: Sequence[_Taken]) -> tuple[Curve, ...]:
    return (
        curve(
            _PART,
            "start, for each event in it",
            "us",
            [(one.size, one.cpu_us("start", one.size)) for one in taken],
        ),
        curve(_PART, "put one event", "us", [(one.size, one.cpu_us("put", PUTS)) for one in taken]),
        curve(
            _PART,
            "drain one event",
            "us",
            [(one.size, one.cpu_us("drain", one.size + PUTS)) for one in taken],
        ),
        curve(
            _PART,
            "drain one event, RabbitMQ",
            "us",
            [(one.size, one.broker_cpu / (one.size + PUTS) * 1e6) for one in taken],
        ),
        curve(
            _PART,
            "memory while it starts and drains, for each event in it",
            "bytes",
            [
                (
                    one.size,
                    max(step["memory"] for step in (one.found["start"], one.found["drain"])) / one.size,
                )
                for one in taken
            ],
        ),
    )


def _fill(folder: Path, size: int) -> None:
    """In one transaction: putting a million takes a while."""
    folder.chmod(0o700)
    file = SpoolFile(next(iter(possible_paths(folder))), min_free_bytes=0)
    rows = ((_AT + number, _AT // 1000, body(number)) for number in range(size))
    with file.database.connection as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
    file.close()


async def _of_child(folder: Path, amqp_url: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.programs.bench.growth_spool_child", str(folder), amqp_url, str(PUTS),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=CHECKOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for line in said.splitlines():
        if line.startswith(RESULT):
            return dict(orjson.loads(line.removeprefix(RESULT)))
    raise RuntimeError(f"the process with a spool has failed: {said.decode()[-1000:]}")
