"""The spool's own thread: what waits is written with one commit, and who asked is answered in the event loop."""

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
from bridge.spool.jobs import Do, Put, Read, Remove, outcome_of
from bridge.spool.own_file import OwnFile
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.jobs import Job, Outcome
    from bridge.spool.refused_entries import Task
    from bridge.spool.spool_file import Entry
    from bridge.spool.state import SpoolState

T = TypeVar("T")

log = logs.logger("spool")

STALLED_SECONDS: Final = 1.0
"""A disk that has not answered for so long takes nothing: whoever asks is refused at once, and nothing piles up."""
_OPENING_SECONDS: Final = 2.0
"""A folder that takes longer does not keep the receiver from starting; it is there later."""
_ENDING_SECONDS: Final = 2.0
"""A disk that takes longer is left behind: whoever waited for it has had its answer, and it was no 200."""
_LOOK_EVERY_SECONDS: Final = 0.5
_MOST_IN_ONE_COMMIT: Final = 5000


class Writer:
    """Writes to this process's spool file, many jobs with one commit, and reads from it.

    Jobs are done in the order in which they were asked for, but that reads, and what is done with entries that are
    set aside, come after the commit they wait with.
    All that is public belongs to the event loop; the file, once it is claimed, to the writer's own thread alone.
    """

    def __init__(self, settings: SpoolSettings, *, found: Callable[[], object]) -> None:
        """Make a writer that rests; `open` makes one that works.

        Args:
            settings: the folder, and what must stay free on its disk.
            found: called in the event loop when a file that was claimed has entries already.
        """
        self._loop = asyncio.get_running_loop()
        self._directory = settings.directory
        self._asked: list[Job] = []
        self._handed_over: deque[tuple[float, list[Job]]] = deque()
        """Since when what waits for the thread, or is being done, oldest first."""
        self._busy_since: float | None = None
        """Since when the thread does what it does now; None while it rests."""
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._file = OwnFile(settings, found=partial(self._in_the_loop, found))
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_left_behind = False
        self._stall_is_logged = False
        self._watching: asyncio.TimerHandle | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpoolSettings, *, found: Callable[[], object]) -> AsyncIterator[Self]:
        """A writer at work, for as long as the context lasts; what was asked of it before the end is done.

        A folder that cannot be used does not raise: the state says so, every `put` is refused, and it is tried
        again. Nor does one that does not answer; at the end, it is waited for only a while.
        """
        writer = cls(settings, found=found)
        writer._thread.start()
        writer._watch()
        await _set_within(_OPENING_SECONDS, writer._opened)
        try:
            yield writer
        finally:
            writer._hand_over()
            writer._jobs.put(None)
            if not await _set_within(_ENDING_SECONDS, writer._ended):
                writer._leave_behind()
            if writer._watching is not None:
                writer._watching.cancel()

    @property
    def state(self) -> SpoolState:
        """How the file was after the last commit; not writable while the disk does not answer."""
        state = self._file.state
        if (stalled := self.stalled) is not None:
            return replace(state, writable=False, reason=stalled)
        return state

    @property
    def kept_bytes(self) -> int:
        """How much was in the file after the last commit."""
        return self._file.state.bytes

    @property
    def stalled(self) -> str | None:
        """How long the disk has not answered, for people, if that is too long."""
        since = self._busy_since
        if self._handed_over:
            since = min(self._handed_over[0][0], since or float("inf"))
        if since is None or (seconds := time.monotonic() - since) < STALLED_SECONDS:
            return None
        return f"{self._directory}: the disk has not answered for {seconds:.0f} s"

    @property
    def path(self) -> Path | None:
        """The file that this process has, if it has one."""
        return self._file.path

    @property
    def newest_found(self) -> int:
        """The highest id in the files that were claimed; new entries go above it."""
        return self._file.newest_found

    def put(self, entry: Entry, told: Callable[[SpoolError | None], None]) -> None:
        """Have this written, and tell whether it is on the disk, or why it is not. `told` must not raise."""
        self._ask(Put(entry, told))

    def remove(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Have these removed; where the disk refuses, with a later commit. The future never raises."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._ask(Remove(entries, done))
        return done

    def read(self, after: int, limit: int) -> asyncio.Future[list[Entry]]:
        """The oldest entries with an id above `after`, without those that were asked to be removed.

        The future raises:
            SpoolError: the disk refuses.
        """
        done: asyncio.Future[list[Entry]] = self._loop.create_future()
        self._ask(Read(after, limit, done))
        return done

    def do(self, task: Task[T]) -> asyncio.Future[T]:
        """Do something with the entries that are set aside, in a transaction of its own.

        The future raises:
            SpoolError: the disk refuses; nothing was changed.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._ask(Do(task, done))
        return done

    def _ask(self, job: Job) -> None:
        """All that is asked in one turn of the loop is handed over at once: waking a thread is what costs."""
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        self._asked.append(job)

    def _hand_over(self) -> None:
        if self._asked:
            self._handed_over.append((time.monotonic(), self._asked))
            self._jobs.put(self._asked)
            self._asked = []

    def _watch(self) -> None:
        """Nobody might ask, and so nobody would see it."""
        self._watching = self._loop.call_later(STALLED_SECONDS, self._watch)
        stalled = self.stalled
        if stalled is not None and not self._stall_is_logged:
            log.error("the spool's disk does not answer", action="spool.stalled", reason=stalled)
        elif stalled is None and self._stall_is_logged:
            log.info("the spool's disk answers again", action="spool.answers")
        self._stall_is_logged = stalled is not None

    def _leave_behind(self) -> None:
        """The thread may never come back. Whoever still waits is told that nothing was written."""
        self._is_left_behind = True
        reason = self.stalled or f"{self._directory}: the disk is too slow"
        log.error("ends without the spool's disk", action="spool.abandoned", reason=reason)
        for _, jobs in self._handed_over:
            for job in jobs:
                outcome_of(job, SpoolError(reason))()

    def _told(self, batches: int, outcomes: Iterable[Outcome]) -> None:
        if self._is_left_behind:
            return
        for _ in range(batches):
            self._handed_over.popleft()
        for outcome in outcomes:
            outcome()

    # From here on, in the writer's own thread.

    def _in_the_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    def _work(self) -> None:
        self._busy_since = time.monotonic()
        self._guarded(self._file.claim)
        self._in_the_loop(self._opened.set)
        looked_at = time.monotonic()
        while True:
            self._busy_since = None
            batches = self._next_batches()
            self._busy_since = time.monotonic()
            if batches is None:
                break
            jobs = [job for batch in batches for job in batch]
            try:
                outcomes = self._do(jobs) if jobs else []
            except Exception as error:  # noqa: BLE001 -- the thread goes on, and whoever waits is told
                outcomes = self._failed(jobs, error)
            self._in_the_loop(self._told, len(batches), outcomes)
            if not jobs or self._busy_since - looked_at > _LOOK_EVERY_SECONDS:
                self._guarded(partial(self._file.look_after, at_rest=not jobs))
                looked_at = time.monotonic()
        self._guarded(self._file.close)
        self._in_the_loop(self._ended.set)

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 -- the thread goes on, and the state says so
            self._failed((), error)

    def _failed(self, jobs: Iterable[Job], error: Exception) -> list[Outcome]:
        """Something that nobody has foreseen: nothing of it counts as written, and the spool says that it is unusable."""
        log.error("the spool failed in an unforeseen way", action="spool.failure", exc_info=error)
        self._file.refuse(f"an unforeseen failure: {error!r}")
        refusal = SpoolError(f"the spool failed: {error!r}")
        return [outcome_of(job, refusal) for job in jobs]

    def _next_batches(self) -> list[list[Job]] | None:
        """All that waits, for one commit; None when it is time to end, nothing when it is time for a look."""
        try:
            first = self._jobs.get(timeout=_LOOK_EVERY_SECONDS)
        except queue.Empty:
            return []
        if first is None:
            return None
        batches, count = [first], len(first)
        while count < _MOST_IN_ONE_COMMIT:
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

    def _do(self, jobs: Iterable[Job]) -> list[Outcome]:
        """One commit for all that is put and removed, then the reads; an outcome for each job."""
        puts = [job for job in jobs if isinstance(job, Put)]
        removes = [job for job in jobs if isinstance(job, Remove)]
        reads = [job for job in jobs if isinstance(job, Read)]
        refusal = self._commit(puts, removes) if puts or removes else None
        outcomes = [outcome_of(remove, None) for remove in removes]
        outcomes += [outcome_of(put, refusal) for put in puts]
        outcomes += [outcome_of(job, self._done(job)) for job in jobs if isinstance(job, Do)]
        outcomes += [outcome_of(read, self._read(read)) for read in reads]
        return outcomes

    def _commit(self, puts: Iterable[Put], removes: Iterable[Remove]) -> SpoolError | None:
        """Whether the puts were refused."""
        added = [put.entry for put in puts]
        removed = [entry for remove in removes for entry in remove.entries]
        try:
            self._file.commit(added, removed)
        except SpoolError as refusal:
            return refusal
        return None

    def _done(self, job: Do) -> Any:
        try:
            return self._file.do(job.task)
        except SpoolError as refusal:
            return refusal

    def _read(self, read: Read) -> list[Entry] | SpoolError:
        try:
            return self._file.read(read.after, read.limit)
        except SpoolError as refusal:
            return refusal


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
