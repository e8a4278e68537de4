"""The thread of the spool: it writes all waiting jobs with one commit, and returns results to the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge.spool.folder import SpoolError
from bridge.spool.jobs import Put, Read, Remove, RunTask, completion_of
from bridge.spool.own_file import OwnFile
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.jobs import Completion, Job
    from bridge.spool.refused_entries import EntryTask
    from bridge.spool.spool_file import SpoolEntry
    from bridge.spool.state import SpoolState

T = TypeVar("T")

log = logs.logger("spool")

STALLED_SECONDS: Final = 1.0
"""A disk that does not answer for so long counts as hanging: new events fail at once, and nothing piles up."""
_OPENING_SECONDS: Final = 2.0
"""The receiver starts without a folder that takes longer; it is used later."""
_ENDING_SECONDS: Final = 2.0
"""A disk that takes longer is not waited for. Its callers have had an answer, and it was not 200."""
_MAINTENANCE_SECONDS: Final = 0.5
_MAX_PER_COMMIT: Final = 5000


class Writer:
    """Writes to this process's spool file, many jobs with one commit, and reads from it.

    Jobs are done in order, except that reads and tasks come after the writes that were submitted with them. Public methods
    are for the event loop. The file is used by the writer's own thread only.
    """

    def __init__(self, settings: SpoolSettings, *, on_entries_found: Callable[[], object]) -> None:
        """Create a writer; `open` creates and starts one.

        Args:
            settings: the folder, and what must stay free on its disk.
            on_entries_found: called in the event loop when a claimed file already has entries.
        """
        self._loop = asyncio.get_running_loop()
        self._directory = settings.directory
        self._submitted: list[Job] = []
        self._handed_over: deque[tuple[float, list[Job]]] = deque()
        """Batches that wait for the thread, or are being done, oldest first, each with its start."""
        self._busy_since: float | None = None
        """Since when the thread does its current work; None while it waits for jobs."""
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_thread, name="spool", daemon=True)
        self._file = OwnFile(settings, on_entries_found=partial(self._in_the_loop, on_entries_found))
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_abandoned = False
        self._stall_is_logged = False
        self._stall_check: asyncio.TimerHandle | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: SpoolSettings, *, on_entries_found: Callable[[], object]
    ) -> AsyncIterator[Self]:
        """A started writer for the duration of the context. Jobs submitted before the end are done.

        An unusable or hanging folder does not raise: the state says so, every `put` fails, and it is tried again. At the
        end a hanging one is waited for only a while.
        """
        writer = cls(settings, on_entries_found=on_entries_found)
        writer._thread.start()
        writer._check_stall()
        await _set_within(_OPENING_SECONDS, writer._opened)
        try:
            yield writer
        finally:
            writer._hand_over()
            writer._jobs.put(None)
            if not await _set_within(_ENDING_SECONDS, writer._ended):
                writer._abandon()
            if writer._stall_check is not None:
                writer._stall_check.cancel()

    @property
    def state(self) -> SpoolState:
        """The state after the last commit; not writable while the disk does not answer."""
        state = self._file.state
        if (stalled := self.stalled) is not None:
            return replace(state, writable=False, reason=stalled)
        return state

    @property
    def stored_bytes(self) -> int:
        """Bytes in the file after the last commit."""
        return self._file.state.bytes

    @property
    def stalled(self) -> str | None:
        """A line for people if the disk has not answered for too long, else None."""
        since = self._busy_since
        if self._handed_over:
            since = min(self._handed_over[0][0], since or float("inf"))
        if since is None or (seconds := time.monotonic() - since) < STALLED_SECONDS:
            return None
        return f"{self._directory}: the disk has not answered for {seconds:.0f} s"

    @property
    def path(self) -> Path | None:
        """The file of this process; None if it has none."""
        return self._file.path

    @property
    def highest_found_id(self) -> int:
        """The highest id in the files that were claimed. New ids are above it."""
        return self._file.highest_found_id

    def put(self, entry: SpoolEntry, on_done: Callable[[SpoolError | None], None]) -> None:
        """Write an entry, and call `on_done` with None once it is fsynced, or with the error. It must not raise."""
        self._submit(Put(entry, on_done))

    def remove(self, entries: Sequence[SpoolEntry]) -> asyncio.Future[None]:
        """Remove entries; if the disk fails, with a later commit. The future never raises."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._submit(Remove(entries, done))
        return done

    def read(self, after: int, limit: int) -> asyncio.Future[list[SpoolEntry]]:
        """The oldest entries with an id above `after`, except those that are to be removed.

        The future raises:
            SpoolError: the disk fails.
        """
        done: asyncio.Future[list[SpoolEntry]] = self._loop.create_future()
        self._submit(Read(after, limit, done))
        return done

    def do(self, task: EntryTask[T]) -> asyncio.Future[T]:
        """Run a task on the refused entries, in a transaction of its own.

        The future raises:
            SpoolError: the disk fails; nothing was changed.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._submit(RunTask(task, done))
        return done

    def _submit(self, job: Job) -> None:
        """Everything submitted in one iteration of the loop is handed over together: waking a thread is what costs."""
        if not self._submitted:
            self._loop.call_soon(self._hand_over)
        self._submitted.append(job)

    def _hand_over(self) -> None:
        if self._submitted:
            self._handed_over.append((time.monotonic(), self._submitted))
            self._jobs.put(self._submitted)
            self._submitted = []

    def _check_stall(self) -> None:
        """Log when the disk stops answering, and when it answers again, also while no job comes."""
        self._stall_check = self._loop.call_later(STALLED_SECONDS, self._check_stall)
        stalled = self.stalled
        if stalled is not None and not self._stall_is_logged:
            log.error("the spool's disk does not answer", action="spool.stalled", reason=stalled)
        elif stalled is None and self._stall_is_logged:
            log.info("the spool's disk answers again", action="spool.answering_again")
        self._stall_is_logged = stalled is not None

    def _abandon(self) -> None:
        """The thread may never return. Waiting jobs are completed as failed."""
        self._is_abandoned = True
        reason = self.stalled or f"{self._directory}: the disk is too slow"
        log.error(
            "ending without waiting for the spool's disk, which does not answer",
            action="spool.abandoned",
            reason=reason,
        )
        for _, jobs in self._handed_over:
            for job in jobs:
                completion_of(job, SpoolError(reason))()

    def _on_batches_done(self, batches: int, completions: Iterable[Completion]) -> None:
        if self._is_abandoned:
            return
        for _ in range(batches):
            self._handed_over.popleft()
        for completion in completions:
            completion()

    # From here on, in the writer's own thread.

    def _in_the_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    def _run_thread(self) -> None:
        self._busy_since = time.monotonic()
        self._run_guarded(self._file.claim)
        self._in_the_loop(self._opened.set)
        maintained_at = time.monotonic()
        while True:
            self._busy_since = None
            batches = self._next_batches()
            self._busy_since = time.monotonic()
            if batches is None:
                break
            jobs = [job for batch in batches for job in batch]
            try:
                completions = self._run_jobs(jobs) if jobs else []
            except Exception as error:  # noqa: BLE001 -- the thread continues, and the jobs fail
                completions = self._failed(jobs, error)
            self._in_the_loop(self._on_batches_done, len(batches), completions)
            if not jobs or self._busy_since - maintained_at > _MAINTENANCE_SECONDS:
                self._run_guarded(partial(self._file.maintain, at_rest=not jobs))
                maintained_at = time.monotonic()
        self._run_guarded(self._file.close)
        self._in_the_loop(self._ended.set)

    def _run_guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 -- the thread continues, and the state says so
            self._failed((), error)

    def _failed(self, jobs: Iterable[Job], error: Exception) -> list[Completion]:
        """Unexpected error: the jobs fail, and the spool becomes not writable."""
        log.error("the spool failed unexpectedly", action="spool.failure", exc_info=error)
        self._file.refuse(f"an unexpected failure: {error!r}")
        failure = SpoolError(f"the spool failed: {error!r}")
        return [completion_of(job, failure) for job in jobs]

    def _next_batches(self) -> list[list[Job]] | None:
        """All waiting batches, for one commit; None at the end; empty when maintenance is due."""
        try:
            first = self._jobs.get(timeout=_MAINTENANCE_SECONDS)
        except queue.Empty:
            return []
        if first is None:
            return None
        batches, count = [first], len(first)
        while count < _MAX_PER_COMMIT:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._jobs.put(None)
                break
            batches.append(more)
            count += len(more)
        return batches

    def _run_jobs(self, jobs: Iterable[Job]) -> list[Completion]:
        """One commit for all puts and removes, then the tasks and reads; returns a completion for each job."""
        puts = [job for job in jobs if isinstance(job, Put)]
        removes = [job for job in jobs if isinstance(job, Remove)]
        reads = [job for job in jobs if isinstance(job, Read)]
        error = self._commit(puts, removes) if puts or removes else None
        completions = [completion_of(remove, None) for remove in removes]
        completions += [completion_of(put, error) for put in puts]
        completions += [completion_of(job, self._run_task(job)) for job in jobs if isinstance(job, RunTask)]
        completions += [completion_of(read, self._read(read)) for read in reads]
        return completions

    def _commit(self, puts: Iterable[Put], removes: Iterable[Remove]) -> SpoolError | None:
        """Commit; returns the error of the puts, if there is one."""
        added = [put.entry for put in puts]
        removed = [entry for remove in removes for entry in remove.entries]
        try:
            self._file.commit(added, removed)
        except SpoolError as error:
            return error
        return None

    def _run_task(self, job: RunTask) -> Any:
        try:
            return self._file.do(job.task)
        except SpoolError as error:
            return error

    def _read(self, read: Read) -> list[SpoolEntry] | SpoolError:
        try:
            return self._file.read(read.after, read.limit)
        except SpoolError as error:
            return error


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
