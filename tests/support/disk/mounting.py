"""A disk that forgets in a power cut what was not fsynced, mounted by FUSE for as long as a test needs it."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import os
import shutil
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import orjson

from tests.support.disk.lost import Lost
from tests.support.disk.places import other_places
from tests.support.disk.protocol import FULL_ATTRIBUTE, SYNC_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.support.disk.contents import Rule

_PATIENCE_SECONDS: Final = 90.0
_LOOK_EVERY_SECONDS: Final = 0.02
_END_SECONDS: Final = 5.0
_ROOT: Final = Path(__file__).parents[3]
_CAN_ADMINISTER: Final = 1 << 21
"""CAP_SYS_ADMIN."""


class Disk:
    """A mounted one."""

    def __init__(
        self, path: Path, also_at: Sequence[Path], process: asyncio.subprocess.Process, random: Random
    ) -> None:
        """Take its server, which has it mounted; and where the folder is seen besides."""
        self.path = path
        self._also_at = also_at
        self._process = process
        self._random = random

    async def cut(self, *, keep_nothing: bool = False) -> Lost:
        """Cut the power, and mount again what the disk has. All processes with files there must have been killed before.

        Each cut of a disk draws on; the same writes, fsyncs and seed lose the same.

        Args:
            keep_nothing: whatever was not made durable is lost, and nothing is drawn.
        """
        for path in self._also_at:
            await _unmount(path, "umount")
        await _unmount(self.path, "fusermount3", "-u")
        assert self._process.stdin is not None
        order = [self._random.getrandbits(63), 0.0 if keep_nothing else None]
        self._process.stdin.write(orjson.dumps(order, option=orjson.OPT_APPEND_NEWLINE))
        lost = await _mounted(self._process)
        await self.bind()
        return lost

    async def bind(self) -> None:
        """Mount it at the other places, too: a node that has a root directory of its own sees it there."""
        for path in self._also_at:
            said = await _run("mount", "--bind", str(self.path), str(path))
            assert not said, said

    async def sync(self) -> None:
        """Everything is on the disk now, names too, as if the machine had run on for half a minute."""
        await asyncio.to_thread(_write_back, self.path)
        await asyncio.to_thread(os.setxattr, self.path, SYNC_ATTRIBUTE, b"")

    async def fill(self, *, full: bool = True) -> None:
        """No more fits onto it: what would need room fails with ENOSPC. Or there is room again."""
        await asyncio.to_thread(os.setxattr, self.path, FULL_ATTRIBUTE, b"1" if full else b"0")


@asynccontextmanager
async def forgetful_disk(directory: Path, *, seed: int = 0, rule: Rule = "posix") -> AsyncIterator[Disk]:
    """Mount an empty one on this folder, which must be there and keeps its owner and mode.

    Args:
        directory: where.
        seed: of all that the power cuts draw: what had come to the disk by itself, and which sectors of a page.
        rule: what is durable, see `Rule`.
    """
    # Outside: what is under a mount cannot be seen. In memory: the disk's own cost is no part of any test.
    also_at = other_places(directory) if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix="bridge-disk-", dir=_fast_folder()) as backing:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.disk.server", directory, backing, rule,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
        )  # fmt: skip
        try:
            await _mounted(process)
            disk = Disk(directory, also_at, process, Random(seed))  # noqa: S311 -- to be repeated
            await disk.bind()
            yield disk
        finally:
            for path in also_at:
                await _run("umount", "--lazy", "--quiet", str(path))
            assert process.stdin is not None
            process.stdin.close()
            await _run("fusermount3", "-u", "-z", "-q", str(directory))
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """It serves on where a process that the test has left behind has files open; but not for long."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _why_missing() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if ctypes.util.find_library("fuse3") is None or shutil.which("fusermount3") is None:
        return "there is no libfuse3 with fusermount3 here: Debian has them in the package `fuse3`"
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if os.geteuid() == 0 and not int(status["CapEff"], 16) & _CAN_ADMINISTER:
        return "root may not mount here: it lacks CAP_SYS_ADMIN"
    return None


FUSE_MISSING: Final = _why_missing()
"""Why there can be no such disk here, for skips; None where there can."""


async def _mounted(process: asyncio.subprocess.Process) -> Lost:
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE_SECONDS):
        line = await process.stdout.readline()
    assert line, "the forgetful disk's server has ended: its standard error says why"
    return Lost(**orjson.loads(line))


async def _unmount(path: Path, *command: str) -> None:
    """The kernel closes the files of a killed process a moment after it."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while said := await _run(*command, str(path)):  # noqa: ASYNC110 -- nothing tells
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{path}: somebody still has files open there: {said}") from None


async def _run(*arguments: str) -> str:
    """What it says; empty when it has done it."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode() or str(process.returncode) if process.returncode else ""


def _write_back(folder: Path) -> None:
    """All that the kernel still has of it reaches the server. syncfs does not wait for a FUSE file system."""
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # it is gone, or no file to be opened
                _sync(f"{path}/{name}")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- a folder of its own is made in it
