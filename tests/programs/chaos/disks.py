"""Disks that forget what was not synced, one for each machine of the stack; without FUSE plain folders, and no power cuts."""

from __future__ import annotations

import os
import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.support.disk.mounting import FUSE_MISSING, forgetful_disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.disk.contents import Rule
    from tests.support.disk.mounting import Disk

NO_POWER_CUTS: Final = FUSE_MISSING
"""Why there are none here; None: there are."""


@asynccontextmanager
async def disk_of(
    folder: Path, name: str, *, seed: int, rule: Rule
) -> AsyncIterator[tuple[Path, Disk | None]]:
    """A folder for the data of one machine, and the disk that it is on.

    Args:
        folder: for the disks of all.
        name: of the machine.
        seed: what a power cut tears is drawn from it.
        rule: of `forgetful_disk`.
    """
    place = folder / f"{name}.disk"
    place.mkdir()
    place.chmod(0o711)
    if NO_POWER_CUTS is not None:
        yield place, None
        return
    async with forgetful_disk(place, seed=seed ^ zlib.crc32(name.encode()), rule=rule) as disk:
        yield disk.path, disk


def synced(folder: Path) -> None:
    """All that is in it is on the disk for good, whoever writes to it meanwhile. Blocking."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in (*files, "."):
            with suppress(FileNotFoundError):
                _sync(f"{path}/{name}")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
