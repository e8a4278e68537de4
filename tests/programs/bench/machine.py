"""On what was measured: one line about this machine and the programs on it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aio_pika

from tests.programs.bench.load import CONNECTIONS

if TYPE_CHECKING:
    from tests.programs.bench.place import Place

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


def filesystem(path: Path) -> str:
    """The kind of file system that this is on, as the kernel calls it."""
    real, mounts = path.resolve(), Path("/proc/mounts").read_text().splitlines()
    kinds = {Path(fields[1]): fields[2] for fields in map(str.split, mounts)}
    return next(kinds[folder] for folder in (real, *real.parents) if folder in kinds)


async def about(place: Place, *, rounds: int, seconds: int, before: float) -> str:
    """Cores, versions, and how it was measured.

    Args:
        place: what was started.
        rounds: the tables show their medians.
        seconds: of each measurement.
        before: processes that ran or waited for a core, of late, when nothing was started yet.
    """
    async with await aio_pika.connect(place.node.url) as connection:
        underlay = await (await connection.channel()).get_underlay_channel()
        rabbitmq = str(underlay.connection.server_properties["version"])
    load = f"wrk -t1 -c{CONNECTIONS}" if place.load.wrk else f"own load generator, {CONNECTIONS} connections"
    return (
        f"{os.cpu_count()} cores, which RabbitMQ and the load share; Python {platform.python_version()}, "
        f"aiohttp {version('aiohttp')}, RabbitMQ {rabbitmq}; {load}; "
        f"rounds: {rounds}, of {seconds} s, medians; load average before it {before:.1f}."
    )
