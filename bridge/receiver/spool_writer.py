"""The spool's own thread: what waits is written with one commit, and who asked is answered in the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bridge.receiver.spool_folder import SpoolError
from bridge.receiver.spool_own_file import REOPEN_SECONDS, OwnFile
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.receiver.spool_file import Entry
    from bridge.receiver.spool_own_file import SpoolState
    from bridge.settings import Spool as SpoolSettings

log = logs.logger("spool")

_MOST_IN_ONE_COMMIT: Final = 5000


@dataclass(frozen=True, slots=True)
class _Put:
    entry: Entry
    told: Callable[[SpoolError | None], None]


@dataclass(frozen=True, slots=True)
class _Remove:
    entries: Sequence[Entry]
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Read:
    after: int
    limit: int
    done: asyncio.Future[list[Entry]]


_Job = _Put | _Remove | _Read
_Outcome = Callable[[], object]
"""What is to be called in the event loop."""


class Writer:
    """Writes to this process's spool file, many jobs with one commit, and reads from it.

    Jobs are done in the order in which they were asked for, but that reads come after the commit they wait with.
    All that is public belongs to the event loop; the file, once it is claimed, to the writer's own thread alone.
    """

    def __init__(self, settings: SpoolSettings, *, found: Callable[[], object]) -> None:
        """Make a writer that rests; `open` makes one that works.

        Args:
            settings: the folder, and what must stay free on its disk.
            found: called in the event loop when a file that was claimed has entries already.
        """
        self._loop = asyncio.get_running_loop()
        self._asked: list[_Job] = []
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._file = OwnFile(settings, found=partial(self._loop.call_soon_threadsafe, found))

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpoolSettings, *, found: Callable[[], object]) -> AsyncIterator[Self]:
        """A writer at work, for as long as the context lasts; what was asked of it before the end is done.

        A folder that cannot be used does not raise: the state says so, every `put` is refused, and it is tried
        again.
        """
        writer = cls(settings, found=found)
        await asyncio.to_thread(writer._file.claim)
        writer._thread.start()
        try:
            yield writer
        finally:
            writer._hand_over()
            writer._jobs.put(None)
            await asyncio.to_thread(writer._thread.join)

    @property
    def state(self) -> SpoolState:
        """How the file was after the last commit."""
        return self._file.state

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
        self._ask(_Put(entry, told))

    def remove(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Have these removed; where the disk refuses, with a later commit. The future never raises."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._ask(_Remove(entries, done))
        return done

    def read(self, after: int, limit: int) -> asyncio.Future[list[Entry]]:
        """The oldest entries with an id above `after`, without those that were asked to be removed.

        The future raises:
            SpoolError: the disk refuses.
        """
        done: asyncio.Future[list[Entry]] = self._loop.create_future()
        self._ask(_Read(after, limit, done))
        return done

    def _ask(self, job: _Job) -> None:
        """All that is asked in one turn of the loop is handed over at once: waking a thread is what costs."""
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        self._asked.append(job)

    def _hand_over(self) -> None:
        if self._asked:
            self._jobs.put(self._asked)
            self._asked = []

    # From here on, in the writer's own thread.

    def _work(self) -> None:
        while (jobs := self._next_jobs()) is not None:
            try:
                outcomes = self._do(jobs)
                if not self._file.state.writable:
                    self._file.probe()
            except Exception as error:  # noqa: BLE001 -- the thread goes on, and whoever waits is told
                outcomes = self._failed(jobs, error)
            self._loop.call_soon_threadsafe(_tell, outcomes)
        self._file.close()

    def _failed(self, jobs: Iterable[_Job], error: Exception) -> list[_Outcome]:
        """Something that nobody has foreseen: nothing of it counts as written, and the spool says that it is unusable."""
        log.error("the spool failed in an unforeseen way", action="spool.failure", exc_info=error)
        self._file.refuse(f"an unforeseen failure: {error!r}")
        refusal = SpoolError(f"the spool failed: {error!r}")
        return [_outcome(job, refusal) for job in jobs]

    def _next_jobs(self) -> list[_Job] | None:
        """All that waits, for one commit; None when it is time to end, nothing when it is time for a probe."""
        try:
            first = self._jobs.get(timeout=None if self._file.state.writable else REOPEN_SECONDS)
        except queue.Empty:
            return []
        if first is None:
            return None
        jobs = first
        while len(jobs) < _MOST_IN_ONE_COMMIT:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._jobs.put(None)
                break
            jobs += more
        return jobs

    def _do(self, jobs: Iterable[_Job]) -> list[_Outcome]:
        """One commit for all that is put and removed, then the reads; an outcome for each job."""
        puts = [job for job in jobs if isinstance(job, _Put)]
        removes = [job for job in jobs if isinstance(job, _Remove)]
        reads = [job for job in jobs if isinstance(job, _Read)]
        refusal = self._commit(puts, removes) if puts or removes else None
        outcomes = [_outcome(remove, None) for remove in removes]
        outcomes += [_outcome(put, refusal) for put in puts]
        outcomes += [_outcome(read, self._read(read)) for read in reads]
        return outcomes

    def _commit(self, puts: Iterable[_Put], removes: Iterable[_Remove]) -> SpoolError | None:
        """Whether the puts were refused."""
        added = [put.entry for put in puts]
        removed = [entry for remove in removes for entry in remove.entries]
        try:
            self._file.commit(added, removed)
        except SpoolError as refusal:
            return refusal
        return None

    def _read(self, read: _Read) -> list[Entry] | SpoolError:
        try:
            return self._file.read(read.after, read.limit)
        except SpoolError as refusal:
            return refusal


def _outcome(job: _Job, outcome: Any) -> _Outcome:
    if isinstance(job, _Put):
        return partial(job.told, outcome)
    return partial(_resolve, job.done, outcome)


def _tell(outcomes: Iterable[_Outcome]) -> None:
    for outcome in outcomes:
        outcome()


def _resolve(done: asyncio.Future[Any], outcome: object) -> None:
    if done.done():
        return
    if isinstance(outcome, SpoolError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
