"""The thread of the spool: all waiting jobs are written with one commit, and nothing else touches this process's file."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.errors import SpoolError
from bridge.spool.jobs import JobQueue, Put, Read, Remove, RunTask, completion_of
from bridge.spool.own_file import OwnFile
from bridge.spool.stall import StallDetector
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import Self

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.jobs import Completion, Job

T = TypeVar("T")

log = logs.logger("spool")

_OPENING_SECONDS: Final = 2.0
"""How long the start waits for the folder. A slower one is used later."""
_ENDING_SECONDS: Final = 2.0
"""How long the end waits for the disk. Requests that still wait for it were answered, and not with 200."""
_MAINTENANCE_SECONDS: Final = 0.5
"""Interval of the checks of the file. After this time without a job it may be shrunk."""


class SpoolThread:
    """Does the jobs in order, except that tasks and reads come after the writes that were submitted with them."""

    def __init__(self, settings: SpoolSettings, *, on_entries_found: Callable[[], object]) -> None:
        """Create a thread; `open` creates and starts one.

        Args:
            settings: the folder, and what must stay free on its disk.
            on_entries_found: called in the event loop when a claimed file already has entries.
        """
        self._directory = settings.directory
        self.jobs = JobQueue()
        """Submit jobs here."""
        self.stall = StallDetector(settings.directory, self.jobs)
        self.file = OwnFile(settings, on_entries_found=partial(self.jobs.call_in_loop, on_entries_found))
        """For the thread only, except `state`, `path` and `highest_found_id`."""
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: SpoolSettings, *, on_entries_found: Callable[[], object]
    ) -> AsyncIterator[Self]:
        """A running thread for the duration of the context. Jobs submitted before the end are done.

        An unusable or hanging folder does not raise: the state says so, every write fails, and it is tried again. At the
        end a hanging one is waited for only a while.
        """
        thread = cls(settings, on_entries_found=on_entries_found)
        thread._thread.start()
        with thread.stall.logging():
            await _set_within(_OPENING_SECONDS, thread._opened)
            try:
                yield thread
            finally:
                thread.jobs.end()
                if not await _set_within(_ENDING_SECONDS, thread._ended):
                    thread._abandon()

    def _abandon(self) -> None:
        reason = self.stall.reason or f"{self._directory}: the disk is too slow"
        log.error(
            "ending without waiting for the spool's disk, which does not answer",
            action="spool.abandoned",
            reason=reason,
        )
        self.jobs.abandon(SpoolError(reason))

    # From here on, in the thread.

    def _run(self) -> None:
        self.stall.busy_since = time.monotonic()
        self._run_guarded(self.file.claim)
        self.stall.busy_since = None  # before anybody is told: who is told may ask at once
        self.jobs.call_in_loop(self._opened.set)
        maintained_at = time.monotonic()
        while True:
            batches = self.jobs.next_batches(_MAINTENANCE_SECONDS)
            self.stall.busy_since = began = time.monotonic()
            if batches is None:
                break
            jobs = [job for batch in batches for job in batch]
            try:
                completions = self._run_jobs(jobs) if jobs else []
            except Exception as error:  # noqa: BLE001 -- the thread continues, and the jobs fail
                completions = self._failed(jobs, error)
            self.stall.busy_since = None
            self.jobs.finish(len(batches), completions)
            if not jobs or began - maintained_at > _MAINTENANCE_SECONDS:
                self.stall.busy_since = time.monotonic()
                self._run_guarded(partial(self.file.maintain, at_rest=not jobs))
                self.stall.busy_since = None
                maintained_at = time.monotonic()
        self._run_guarded(self.file.close)
        self.jobs.call_in_loop(self._ended.set)

    def _run_guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 -- the thread continues, and the state says so
            self._failed((), error)

    def _failed(self, jobs: Iterable[Job], error: Exception) -> list[Completion]:
        """Unexpected error: the jobs fail, and the spool becomes not writable."""
        log.error("the spool failed unexpectedly", action="spool.failure", exc_info=error)
        self.file.mark_unwritable(f"an unexpected failure: {error!r}")
        failure = SpoolError(f"the spool failed: {error!r}")
        return [completion_of(job, failure) for job in jobs]

    def _run_jobs(self, jobs: Iterable[Job]) -> list[Completion]:
        """One commit for all puts and removes, then the tasks, then the reads; returns a completion for each job."""
        puts = [job for job in jobs if isinstance(job, Put)]
        removes = [job for job in jobs if isinstance(job, Remove)]
        tasks = [job for job in jobs if isinstance(job, RunTask)]
        reads = [job for job in jobs if isinstance(job, Read)]
        error = None
        if puts or removes:
            added = [put.entry for put in puts]
            removed = [entry for remove in removes for entry in remove.entries]
            error = _result(partial(self.file.commit, added, removed))
        completions = [completion_of(remove, None) for remove in removes]
        completions += [completion_of(put, error) for put in puts]
        completions += [completion_of(job, _result(partial(self.file.run_task, job.task))) for job in tasks]
        completions += [
            completion_of(read, _result(partial(self.file.read, read.after, read.limit))) for read in reads
        ]
        return completions


def _result(call: Callable[[], T]) -> T | SpoolError:
    """What the call returns, or the SpoolError that it raises."""
    try:
        return call()
    except SpoolError as error:
        return error


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
