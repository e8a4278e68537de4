"""Spool files whose process is gone: taken over, emptied, removed; kept open while one cannot be let go of."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bridge import private_files
from bridge.spool.errors import SpoolCorruptError, SpoolReplacedError
from bridge.spool.folder import SpoolError, SpoolLockedError
from bridge.spool.pending_removals import MOST, Removals
from bridge.spool.replaced_file import move
from bridge.spool.spool_file import SpoolFile
from bridge.spool.state import size_of
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bridge.spool.mover import Mover
    from bridge.spool.refused_entries import Task
    from bridge.spool.spool_file import Entry

T = TypeVar("T")

_LETTING_GO_SECONDS: Final = 2.0
"""A disk that does not answer in this time is left behind."""


async def empty_file(
    path: Path, mover: Mover, *, moved: Callable[[int], None] = lambda _: None
) -> int | None:
    """Move all of a spool file that no process has, and remove it; None when a process has it.

    What is set aside in it is tried once, whether that is due or not.

    Raises:
        PublishError: RabbitMQ takes no more; the file is still there with the rest.
        SpoolError: it cannot be read, or nothing can be removed from it.
    """
    orphans = Orphans()
    try:
        return await orphans.empty(path, mover, moved=moved, all_of_them=True)
    finally:
        await orphans.close()


class Orphans:
    """One after the other. To be used by one task at a time."""

    def __init__(self) -> None:
        self._kept: dict[Path, Orphan] = {}
        """What has to be remembered of them would be forgotten if they were closed."""

    @property
    def kept(self) -> list[Path]:
        """Files that could not be let go of: they are to be tried again, whether they are in the folder or not."""
        return list(self._kept)

    async def empty(
        self,
        path: Path,
        mover: Mover,
        *,
        moved: Callable[[int], None] = lambda _: None,
        all_of_them: bool = False,
    ) -> int | None:
        """As `empty_file`, but that a file is kept from which something cannot be removed, or copied.

        Of what is set aside in it only that which is due is tried, unless it shall be all of it.
        """
        orphan = self._kept.pop(path, None) or await _opened(path)
        if orphan is None:
            return None
        total = None
        try:
            retried = await mover.retry(orphan, all_of_them=all_of_them, own=False, moved=moved)
            total = retried + await mover.empty(orphan, moved=moved)
        finally:
            if not await orphan.let_go(emptied=total is not None):
                self._kept[path] = orphan
        return total

    async def close(self) -> None:
        """Let go of all."""
        for orphan in self._kept.values():
            await orphan.close()
        self._kept.clear()


class Orphan:
    """A spool file that was locked for us. A call that a disk does not answer holds nobody up at the end."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._removals = Removals()
        self._removals.proven = False
        self._turn = threading.Lock()

    async def read(self, after: int, limit: int) -> list[Entry]:
        """As `Spool.read`.

        Raises:
            SpoolReplacedError: somebody has removed the file; what is in it is to be copied before anything else.
            SpoolError: the disk refuses, or takes no removals.
        """
        return [] if self._removals.too_many else await self._call(partial(self._read, after, limit))

    async def remove(self, entries: Sequence[Entry]) -> None:
        """These are in RabbitMQ. Where the disk refuses, they are tried again later, and are not read again."""
        self._removals.add({entry.id: size_of(entry) for entry in entries})
        await self._call(self._remove)

    async def do(self, task: Task[T]) -> T:
        """As `Spool.do`.

        Raises:
            SpoolError: the disk refuses.
        """
        return await self._call(lambda: self._file.do(task, self._removals))

    async def let_go(self, *, emptied: bool) -> bool:
        """Give it back, and remove it when all of it is in RabbitMQ; whether that was possible. It does not raise.

        Args:
            emptied: all was read that could be.
        """
        try:
            async with asyncio.timeout(_LETTING_GO_SECONDS):
                return await self._call(partial(self._let_go, emptied=emptied))
        except (SpoolError, TimeoutError):
            return False

    async def close(self) -> None:
        """Give it back, whatever is in it."""
        with suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(_LETTING_GO_SECONDS):
                await self._call(self._file.close)

    async def _call(self, call: Callable[[], T]) -> T:
        return await run_abandonable(partial(self._in_turn, call))

    # From here on, in a thread.

    def _in_turn(self, call: Callable[[], T]) -> T:
        with self._turn:
            return call()

    def _read(self, after: int, limit: int) -> list[Entry]:
        if not self._file.in_place():
            raise SpoolReplacedError(self._file.path, committed=False)
        if not self._removals.proven:
            self._prove()
        return self._file.read(after, limit, without=self._removals)

    def _prove(self) -> None:
        """Nothing is published that could not be removed: another process would publish it again."""
        try:
            self._file.probe_removal()
        except SpoolCorruptError:
            raise
        except SpoolError as refusal:
            if not self._can_be_removed_whole():
                raise SpoolError(f"nothing is published, for nothing can be removed: {refusal}") from refusal
            self._removals.refused(str(refusal))
            self._removals.proven = True
        else:
            self._removals.removed()

    def _can_be_removed_whole(self) -> bool:
        """A full disk takes no removal of an entry; that of a small file is as good."""
        scratch = self._file.path.with_suffix(".removable")
        try:
            scratch.touch(private_files.FILE)
            scratch.unlink()
        except OSError:
            return False
        return self._file.contents().entries < MOST

    def _remove(self) -> None:
        due = self._removals.due()
        if not due:
            return
        try:
            self._file.write((), due)
        except SpoolError as refusal:
            self._removals.refused(str(refusal))
        else:
            self._removals.removed(due)

    def _let_go(self, *, emptied: bool) -> bool:
        if not self._file.in_place():
            move(self._file, self._file.path.parent).close()
            return True
        self._remove()
        if emptied and self._file.contents().entries == len(self._removals):
            self._file.close(delete=True)
            return True
        if self._removals:
            return False
        self._file.close()
        return True


async def _opened(path: Path) -> Orphan | None:
    try:
        return Orphan(await run_abandonable(partial(SpoolFile, path, min_free_bytes=0)))
    except SpoolLockedError:
        return None
