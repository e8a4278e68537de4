"""Faults of machines: killed, paused, without power, with a wrong clock, with a full disk; more of them, and fewer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.programs.chaos.disks import NO_POWER_CUTS
from tests.programs.chaos.injecting import SkippedError
from tests.programs.chaos.parts import Role
from tests.programs.chaos.schedule import ALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from tests.programs.chaos.parts import Part
    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.stack import Stack

_LIBRARY: Final = "libfaketime.so.1"
_LIBRARIES: Final = ("/usr/lib", "/usr/lib64")
_SEES_ITS_CLOCK_SECONDS: Final = 5.0
_SECONDS_OF: Final = {"+60 s": 60, "-60 s": -60, "+6 h": 21_600, "-6 h": -21_600}


@asynccontextmanager
async def kill(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    part = stack.parts[fault.target]
    await part.kill()
    try:
        yield
    finally:
        await part.start()


@asynccontextmanager
async def pause(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    part = stack.parts[fault.target]
    part.pause()
    try:
        yield
    finally:
        part.resume()


@asynccontextmanager
async def power_cut(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """What was not synced is gone. Of all at once: everything is dead before the first disk forgets."""
    if NO_POWER_CUTS is not None:
        raise SkippedError(NO_POWER_CUTS)
    parts = list(stack.parts.values()) if fault.target == ALL else [stack.parts[fault.target]]
    await asyncio.gather(*(part.kill() for part in parts))
    try:
        for part in parts:
            if part.disk is not None:
                await part.disk.cut()
        yield
    finally:
        await _started(parts)


async def _started(parts: Collection[Part]) -> None:
    """RabbitMQ and PostgreSQL together, and the roles beside them: they have to wait for what is not there yet."""
    await asyncio.gather(*(part.start() for part in parts))


@asynccontextmanager
async def clock(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """The clock of one process is set while it runs, and set right again; it is started anew for that, with libfaketime."""
    library = _faketime()
    role = stack.parts[fault.target]
    assert isinstance(role, Role)
    offset = stack.folder / f"clock-{fault.target}"
    offset.write_text("+0\n")
    await role.kill()
    await role.start(
        {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
    )
    said = "receiver.started" if fault.target in stack.receivers else "worker.started"
    with suppress(AssertionError):  # what it needs to start may be broken
        await role.process.says(said, patience=_SEES_ITS_CLOCK_SECONDS)
    try:
        offset.write_text(f"{_SECONDS_OF[fault.argument]:+d}\n")
        yield
    finally:
        offset.write_text("+0\n")


@asynccontextmanager
async def full_disk(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """Nothing more goes onto the disk of the spool."""
    disk = stack.parts[fault.target].disk
    if disk is None:
        raise SkippedError(NO_POWER_CUTS or "no disk")
    await disk.fill()
    try:
        yield
    finally:
        await disk.fill(full=False)


@asynccontextmanager
async def scale(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """One more, which is stopped in order; or the last one is stopped in order, and started again."""
    if fault.argument == "up":
        name = f"{fault.target.removesuffix('s')}-more"
        more = await stack.add(name)
        try:
            yield
        finally:
            await more.stop()
            stack.retired.append(stack.roles.pop(name))
        return
    last = stack.roles[last_of(stack, fault.target)]
    await last.stop()
    try:
        yield
    finally:
        await last.start()


def last_of(stack: Stack, roles: str) -> str:
    """The one that is stopped where there shall be fewer."""
    return (stack.receivers if roles == "receivers" else stack.workers)[-1]


def _faketime() -> Path:
    for folder in _LIBRARIES:
        for found in sorted(Path(folder).glob(f"**/faketime/{_LIBRARY}")):
            return found
    raise SkippedError("there is no libfaketime here: Debian has it in the package `libfaketime`")
