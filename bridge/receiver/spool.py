"""The spool: where an event is durable while RabbitMQ is not there. One thread writes, many commit together."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bridge.receiver.spool_file import (
    OVERHEAD,
    Contents,
    Entry,
    SpoolCorruptError,
    SpoolError,
    SpoolFile,
    SpoolFullError,
    set_aside,
)
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.settings import Spool as SpoolSettings

log = logs.logger("spool")

_REOPEN_SECONDS: Final = 1.0
"""A folder that cannot be written is tried again, but not for every event."""
_MOST_IN_ONE_COMMIT: Final = 5000
_LARGEST_ENTRY: Final = 64 * 1024 + OVERHEAD
"""Bytes: the handler takes no larger body."""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How the spool is, for readiness, metrics and people."""

    writable: bool
    reason: str
    """Why it is not writable; empty when it is."""
    entries: int
    bytes: int
    oldest: int | None
    """When the oldest entry was received, Unix milliseconds."""

    @property
    def oldest_age(self) -> float:
        """Seconds; 0 when it is empty."""
        return 0.0 if self.oldest is None else max(0.0, time.time() - self.oldest / 1000)


@dataclass(frozen=True, slots=True)
class _Put:
    entry: Entry
    done: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Remove:
    entries: tuple[Entry, ...]
    done: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Read:
    after: int
    limit: int
    done: asyncio.Future[Any]


_Job = _Put | _Remove | _Read


class Spool:
    """This process's spool file. What `put` has returned for is on the disk."""

    def __init__(self, settings: SpoolSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._file: SpoolFile | None = None
        self._tried_at = 0.0
        self._last_id = 0
        self._newest_found = 0
        self._waiting_bytes = 0
        self._unremoved: dict[int, Entry] = {}
        self._state = SpoolState(writable=False, reason="not opened yet", entries=0, bytes=0, oldest=None)
        self._held: set[int] = set()
        self.filled = asyncio.Event()
        """Set when there is something to drain."""

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpoolSettings) -> AsyncIterator[Self]:
        """The spool in this folder, for as long as the context lasts.

        A folder that cannot be used does not raise: the state says so, every `put` is refused, and it is tried
        again.
        """
        spool = cls(settings)
        await asyncio.to_thread(spool._reopen)
        spool._thread.start()
        try:
            yield spool
        finally:
            spool._jobs.put(None)
            await asyncio.to_thread(spool._thread.join)

    @property
    def state(self) -> SpoolState:
        """How it is now. It counts as writable while the largest event fits."""
        state = self._state
        if state.writable and state.bytes + _LARGEST_ENTRY > self._settings.max_bytes:
            return replace(state, writable=False, reason=self._full())
        return state

    @property
    def paths(self) -> list[Path]:
        """The file that this process has, if it has one."""
        return [self._file.path] if self._file else []

    async def put(self, received_at: int, body: bytes, *, held: bool = False) -> Entry:
        """Keep an event; it is on the disk when this returns.

        Args:
            received_at: Unix milliseconds.
            body: the provider's bytes.
            held: the drain leaves it alone until `release`, for a confirm may still come.

        Raises:
            SpoolFullError: a limit is reached.
            SpoolError: the disk refuses.
        """
        size = len(body) + OVERHEAD
        if self._state.bytes + self._waiting_bytes + size > self._settings.max_bytes:
            raise SpoolFullError(self._full())
        entry = Entry(self._next_id(), received_at, body)
        if held:
            self._held.add(entry.id)
        self._waiting_bytes += size
        try:
            await self._ask(lambda done: _Put(entry, done))
        except SpoolError:
            self._held.discard(entry.id)
            raise
        finally:
            self._waiting_bytes -= size
        self.filled.set()
        return entry

    async def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        Raises:
            SpoolError: the disk refuses.
        """
        entries: list[Entry] = await self._ask(lambda done: _Read(after, limit, done))
        return entries

    async def remove(self, entries: Sequence[Entry]) -> None:
        """These are in RabbitMQ. Where the disk refuses, they are removed with a later commit."""
        if entries:
            await self._ask(lambda done: _Remove(tuple(entries), done))

    def is_held(self, entry: Entry) -> bool:
        return entry.id in self._held

    def release(self, entry: Entry) -> None:
        """The confirm that was waited for will not come any more: let the drain have it."""
        self._held.discard(entry.id)
        self.filled.set()

    def settle(self, entry: Entry) -> None:
        """The confirm came after all: the entry goes with one of the next commits."""
        self._held.discard(entry.id)
        self._jobs.put(_Remove((entry,), self._loop.create_future()))

    def _next_id(self) -> int:
        """Microseconds, so that ids of files that are taken over, or begun anew, never meet.

        A clock that was set back must not put new entries before those that a file held already.
        """
        self._last_id = max(self._last_id + 1, self._newest_found + 1, time.time_ns() // 1000)
        return self._last_id

    def _full(self) -> str:
        return f"the spool holds {self._state.bytes} bytes, and spool.max_bytes is {self._settings.max_bytes}"

    async def _ask(self, job: Callable[[asyncio.Future[Any]], _Job]) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(job(done))
        return await done

    # From here on, in the spool's own thread.

    def _work(self) -> None:
        while (jobs := self._next_jobs()) is not None:
            outcomes = self._do(jobs)
            self._loop.call_soon_threadsafe(_resolve, outcomes)
            if not self._state.writable:
                self._probe()
        if self._file is not None:
            self._file.close()

    def _next_jobs(self) -> list[_Job] | None:
        """All that waits, for one commit; None when it is time to end, nothing when it is time for a probe."""
        try:
            first = self._jobs.get(timeout=None if self._state.writable else _REOPEN_SECONDS)
        except queue.Empty:
            return []
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < _MOST_IN_ONE_COMMIT:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _do(self, jobs: Iterable[_Job]) -> list[tuple[asyncio.Future[Any], object]]:
        """One commit for all that is put and removed, then the reads; an outcome for each job."""
        puts = [job for job in jobs if isinstance(job, _Put)]
        removes = [job for job in jobs if isinstance(job, _Remove)]
        reads = [job for job in jobs if isinstance(job, _Read)]
        for remove in removes:
            self._unremoved.update((entry.id, entry) for entry in remove.entries)
        outcomes: list[tuple[asyncio.Future[Any], object]] = [(remove.done, None) for remove in removes]
        refusal = self._commit([put.entry for put in puts]) if puts or removes else None
        outcomes += [(put.done, refusal) for put in puts]
        outcomes += [(read.done, self._read(read)) for read in reads]
        return outcomes

    def _commit(self, added: list[Entry], *, again: bool = True) -> SpoolError | None:
        """Write; whether it was refused. What is to be removed is kept for the next commit then."""
        if self._file is None and not self._reopen():
            return SpoolError(self._state.reason)
        removed = list(self._unremoved.values())
        try:
            exact = self._write(added, removed)
            self._account(added, removed, exact=exact)
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
            return self._commit(added, again=False) if again else corrupt
        except SpoolError as refusal:
            self._tell(writable=False, reason=str(refusal))
            return refusal
        self._unremoved.clear()
        return None

    def _probe(self) -> None:
        """A spool that refused tells by itself when it is usable again: without, nobody might ask it any more."""
        if self._file is None:
            self._reopen()
            return
        if time.monotonic() - self._tried_at < _REOPEN_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            self._file.probe()
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        except SpoolError as refusal:
            self._tell(writable=False, reason=str(refusal))
        else:
            self._commit([])

    def _write(self, added: list[Entry], removed: list[Entry]) -> bool:
        """Whether everything that was to be removed was there."""
        if self._file is None:
            raise SpoolError(self._state.reason)
        return self._file.write(added, [entry.id for entry in removed]) == len(removed)

    def _read(self, read: _Read) -> list[Entry] | SpoolError:
        """What is in RabbitMQ and could not be removed yet is not shown: it would be published over and over."""
        if self._file is None:
            return []
        after = read.after
        try:
            while entries := self._file.read(after, read.limit):
                if left := [entry for entry in entries if entry.id not in self._unremoved]:
                    return left
                after = entries[-1].id
        except SpoolCorruptError as corrupt:
            self._begin_anew(str(corrupt))
        except SpoolError as refusal:
            return refusal
        return []

    def _begin_anew(self, reason: str) -> None:
        """Set the corrupt file aside; the entries in it are for somebody to recover, and are told of as such."""
        if self._file is None:
            return
        path, lost_sight_of = self._file.path, self._state.entries
        self._file.abandon()
        self._file = None
        self._unremoved.clear()
        try:
            set_aside(path, f"{reason}; it held {lost_sight_of} entries")
        except SpoolError as error:
            self._refused(str(error))
            return
        self._tried_at = 0.0
        self._reopen()

    def _reopen(self) -> bool:
        if time.monotonic() - self._tried_at < _REOPEN_SECONDS:
            return False
        self._tried_at = time.monotonic()
        try:
            self._settings.directory.mkdir(parents=True, exist_ok=True)
            self._take(
                SpoolFile.claim(self._settings.directory, min_free_bytes=self._settings.min_free_bytes)
            )
        except OSError as error:
            self._refused(f"{self._settings.directory}: {error.strerror}; spool.directory must be writable")
        except SpoolError as error:
            self._refused(str(error))
        else:
            return True
        return False

    def _take(self, file: SpoolFile) -> None:
        try:
            contents = self._recount(file)
        except SpoolError:
            file.abandon()
            raise
        self._file = file
        self._newest_found = max(self._newest_found, contents.newest_id)
        if contents.entries:
            self._loop.call_soon_threadsafe(self.filled.set)

    def _refused(self, reason: str) -> None:
        if reason != self._state.reason:  # it is tried again each second
            log.error("the spool cannot be used", action="spool.unusable", reason=reason)
        self._tell(writable=False, reason=reason)

    def _tell(self, *, writable: bool, reason: str) -> None:
        if self._state.writable and not writable:
            log.error("the spool refuses events", action="spool.refused", reason=reason)
        old = self._state
        self._state = SpoolState(writable, reason, old.entries, old.bytes, old.oldest)

    def _account(self, added: list[Entry], removed: list[Entry], *, exact: bool) -> None:
        if self._file is None:
            return
        if not self._state.writable:
            log.info("the spool takes events again", action="spool.usable")
        if not exact:
            self._recount(self._file)
            return
        old = self._state
        entries = old.entries + len(added) - len(removed)
        self._state = SpoolState(
            writable=True,
            reason="",
            entries=entries,
            bytes=old.bytes + sum(map(_size, added)) - sum(map(_size, removed)),
            oldest=self._file.oldest() if entries else None,
        )

    def _recount(self, file: SpoolFile) -> Contents:
        contents = file.contents()
        self._state = SpoolState(
            writable=True, reason="", entries=contents.entries, bytes=contents.bytes, oldest=contents.oldest
        )
        return contents


def _size(entry: Entry) -> int:
    return len(entry.body) + OVERHEAD


def _resolve(outcomes: Iterable[tuple[asyncio.Future[Any], object]]) -> None:
    for done, outcome in outcomes:
        if done.done():
            continue
        if isinstance(outcome, SpoolError):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)
