"""Drains and removes orphaned spool files, whose process has ended. A file that cannot be closed yet is kept open."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bridge import private_files
from bridge.spool.entries import size_of
from bridge.spool.errors import SpoolCorruptError, SpoolError, SpoolLockedError, SpoolMissingError
from bridge.spool.missing_file import copy_to_new_file
from bridge.spool.pending_removals import MAX_PENDING, PendingRemovals
from bridge.spool.spool_file import SpoolFile
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bridge.spool.entries import SpoolEntry
    from bridge.spool.mover import Mover
    from bridge.spool.set_aside_entries import EntryTask

T = TypeVar("T")

_CLOSE_SECONDS: Final = 2.0
"""A disk that does not answer in this time is not waited for."""


async def drain_file(
    path: Path, mover: Mover, *, moved: Callable[[int], None] = lambda _: None
) -> int | None:
    """Move all entries of an orphaned spool file, and remove it. Returns how many, or None if a process has it.

    Its set-aside entries are tried once, whether due or not.

    Raises:
        PublishError: RabbitMQ does not confirm; the rest is still in the file.
        SpoolError: it cannot be read, or entries cannot be removed.
    """
    orphans = Orphans()
    try:
        return await orphans.drain(path, mover, moved=moved, all_of_them=True)
    finally:
        await orphans.close()


class Orphans:
    """Drains orphaned files one after the other. To be used by one task at a time."""

    def __init__(self) -> None:
        self._unclosed: dict[Path, Orphan] = {}
        """Files that have to stay open: closing would forget which entries still have to be removed."""

    @property
    def unclosed(self) -> list[Path]:
        """Files that could not be closed. They have to be tried again, even if they are no longer in the folder."""
        return list(self._unclosed)

    async def drain(
        self,
        path: Path,
        mover: Mover,
        *,
        moved: Callable[[int], None] = lambda _: None,
        all_of_them: bool = False,
    ) -> int | None:
        """As `drain_file`, but a file stays open while entries cannot be removed from it, or copied.

        Only those of its set-aside entries that are due are tried, or all with `all_of_them`.
        """
        orphan = self._unclosed.pop(path, None) or await _opened(path)
        if orphan is None:
            return None
        total = None
        try:
            retried = await mover.retries.retry(orphan, all_of_them=all_of_them, own=False, moved=moved)
            total = retried + await mover.move_all(orphan, moved=moved)
        finally:
            if not await orphan.try_close(emptied=total is not None):
                self._unclosed[path] = orphan
        return total

    async def close(self) -> None:
        """Close all files."""
        for orphan in self._unclosed.values():
            await orphan.close()
        self._unclosed.clear()


class Orphan:
    """An orphaned spool file that this process has locked. A call to a hanging disk delays nobody at the end."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._removals = PendingRemovals()
        self._removals.proven = False
        self._lock = threading.Lock()

    async def read(self, after: int, limit: int) -> list[SpoolEntry]:
        """As `Spool.read`.

        Raises:
            SpoolMissingError: somebody has removed the file; its contents must be copied first.
            SpoolError: the disk fails, or refuses removals.
        """
        return [] if self._removals.too_many else await self._call(partial(self._read, after, limit))

    async def remove(self, entries: Sequence[SpoolEntry]) -> None:
        """Remove confirmed entries. If the disk fails, it is retried later, and they are not read again. It does not raise."""
        self._removals.add({entry.id: size_of(entry) for entry in entries})
        await self._call(self._remove)

    async def run_task(self, task: EntryTask[T]) -> T:
        """As `Spool.run_task`.

        Raises:
            SpoolError: the disk fails.
        """
        return await self._call(lambda: self._file.run_task(task, self._removals))

    async def try_close(self, *, emptied: bool) -> bool:
        """Close the file, and delete it if it is empty; returns whether that was possible. It does not raise.

        Args:
            emptied: every entry was read.
        """
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                return await self._call(partial(self._try_close, emptied=emptied))
        except (SpoolError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close the file, whatever is in it."""
        with suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._call(self._file.close)

    async def _call(self, call: Callable[[], T]) -> T:
        return await run_abandonable(partial(self._locked, call))

    # From here on, in a thread.

    def _locked(self, call: Callable[[], T]) -> T:
        with self._lock:
            return call()

    def _read(self, after: int, limit: int) -> list[SpoolEntry]:
        if not self._file.in_place():
            raise SpoolMissingError(self._file.path, committed=False)
        if not self._removals.proven:
            self._check_removals()
        return self._file.read(after, limit, without=self._removals)

    def _check_removals(self) -> None:
        """Check that entries can be removed. Otherwise another process would publish them again."""
        try:
            self._file.probe_removal()
        except SpoolCorruptError:
            raise
        except SpoolError as error:
            if not self._can_be_deleted():
                raise SpoolError(f"nothing is published, because nothing can be removed: {error}") from error
            self._removals.failed(str(error))
            self._removals.proven = True
        else:
            self._removals.removed()

    def _can_be_deleted(self) -> bool:
        """On a full disk entries cannot be removed, but perhaps the whole file can."""
        scratch = self._file.path.with_suffix(".removable")
        try:
            scratch.touch(private_files.FILE_MODE)
            scratch.unlink()
        except OSError:
            return False
        return self._file.contents().entries < MAX_PENDING

    def _remove(self) -> None:
        due = self._removals.due()
        if not due:
            return
        try:
            self._file.write((), due)
        except SpoolError as error:
            self._removals.failed(str(error))
        else:
            self._removals.removed(due)

    def _try_close(self, *, emptied: bool) -> bool:
        if not self._file.in_place():
            copy_to_new_file(self._file, self._file.path.parent).close()
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
