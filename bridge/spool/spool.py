"""The spool as the event loop sees it: events are durable in it while RabbitMQ is not available."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.entries import OVERHEAD, SpoolEntry, size_of
from bridge.spool.errors import SpoolError, SpoolFullError
from bridge.spool.jobs import Put, Read, Remove, RunTask
from bridge.spool.set_aside_entries import to_set_aside
from bridge.spool.thread import SpoolThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.set_aside_entries import EntryTask, Refusal, SetAsideKind
    from bridge.spool.state import SpoolState
    from bridge.telemetry.trace_context import TraceContext

T = TypeVar("T")

MAX_ENTRY_BYTES: Final = 64 * 1024 + OVERHEAD
"""Bytes. The handler accepts no larger body."""
_MAX_WAITING: Final = 20_000
"""Events that are not fsynced yet: what a slow disk writes in about a second."""
_MAX_WAITING_BYTES: Final = 64 * 1024**2


class Spool:
    """The spool of this process. When `put` returns, the event is fsynced."""

    def __init__(self, settings: SpoolSettings, *, thread: SpoolThread, has_entries: asyncio.Event) -> None:
        """Create a spool; `open` does so from the settings.

        Args:
            settings: its size limit.
            thread: which has been started.
            has_entries: set when there is something to drain.
        """
        self._settings = settings
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._last_id = 0
        self._waiting = 0
        self._waiting_bytes = 0
        self._held: set[int] = set()
        self.set_aside_kinds: tuple[SetAsideKind, ...] = ()
        """The kinds of set-aside entries, as last counted."""
        self.has_entries = has_entries
        """Set when there is something to drain."""

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpoolSettings) -> AsyncIterator[Self]:
        """Open the spool in the folder of the settings, for the duration of the context.

        An unusable folder does not raise: the state says so, every `put` fails, and it is tried again.
        """
        has_entries = asyncio.Event()
        async with SpoolThread.open(settings, on_entries_found=has_entries.set) as thread:
            yield cls(settings, thread=thread, has_entries=has_entries)

    @property
    def state(self) -> SpoolState:
        """The state after the last commit. The spool is writable while its disk answers, and the largest event fits."""
        state = self._thread.file.state
        if (stalled := self._thread.stall.reason) is not None:
            return replace(state, writable=False, reason=stalled)
        if state.writable and state.bytes + MAX_ENTRY_BYTES > self._settings.max_bytes:
            return replace(state, writable=False, reason=self._full_reason())
        return state

    @property
    def max_bytes(self) -> int:
        """Its size limit, `spool.max_bytes`."""
        return self._settings.max_bytes

    @property
    def paths(self) -> list[Path]:
        """The file of this process; empty if it has none."""
        path = self._thread.file.path
        return [path] if path else []

    def enqueue(
        self,
        received_at: int,
        body: bytes,
        done: Callable[[SpoolEntry | SpoolError], None],
        *,
        held: bool = False,
        trace: TraceContext | None = None,
    ) -> None:
        """Queue an event to be written, and call `done` when it is fsynced, or has failed.

        Args:
            received_at: Unix milliseconds.
            body: the provider's bytes.
            done: called once, before this returns or later, with the entry or the error. It must not raise.
            held: the drain skips it until `release`, because a confirm may still arrive.
            trace: the trace that its message belongs to.
        """
        if (stalled := self._thread.stall.reason) is not None:
            done(SpoolError(stalled))
            return
        size = len(body) + OVERHEAD
        if self._thread.file.state.bytes + self._waiting_bytes + size > self._settings.max_bytes:
            done(SpoolFullError(self._full_reason()))
            return
        if self._waiting >= _MAX_WAITING or self._waiting_bytes + size > _MAX_WAITING_BYTES:
            done(SpoolFullError(f"{self._waiting} events already wait for the spool's disk"))
            return
        entry = SpoolEntry(self._next_id(), received_at, body, trace)
        if held:
            self._held.add(entry.id)
        self._waiting += 1
        self._waiting_bytes += size
        self._thread.jobs.submit(Put(entry, partial(self._on_written, entry, done)))

    def _on_written(
        self, entry: SpoolEntry, done: Callable[[SpoolEntry | SpoolError], None], refusal: SpoolError | None
    ) -> None:
        self._waiting -= 1
        self._waiting_bytes -= size_of(entry)
        if refusal is not None:
            self._held.discard(entry.id)
            done(refusal)
            return
        self.has_entries.set()
        done(entry)

    async def put(self, received_at: int, body: bytes, *, held: bool = False) -> SpoolEntry:
        """As `enqueue`, but waits until the event is fsynced.

        Raises:
            SpoolFullError: a limit is reached.
            SpoolError: the disk fails.
        """
        written: asyncio.Future[SpoolEntry | SpoolError] = self._loop.create_future()
        self.enqueue(
            received_at,
            body,
            lambda outcome: None if written.done() else written.set_result(outcome),
            held=held,
        )
        outcome = await written
        if isinstance(outcome, SpoolError):
            raise outcome
        return outcome

    async def read(self, after: int, limit: int) -> list[SpoolEntry]:
        """The oldest entries with an id above `after`, except those that were confirmed and are to be removed.

        Raises:
            SpoolError: the disk fails.
        """
        done: asyncio.Future[list[SpoolEntry]] = self._loop.create_future()
        self._thread.jobs.submit(Read(after, limit, done))
        return await done

    async def remove(self, entries: Sequence[SpoolEntry]) -> None:
        """Remove confirmed entries. If the disk fails, they are removed with a later commit."""
        if entries:
            await self._remove(tuple(entries))

    def _remove(self, entries: Sequence[SpoolEntry]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        self._thread.jobs.submit(Remove(entries, done))
        return done

    async def run_task(self, task: EntryTask[T]) -> T:
        """Run a task on the set-aside entries, in one transaction, fsynced when this returns.

        Raises:
            SpoolError: the disk fails; nothing was changed.
        """
        return await self._run_task(task)

    def _run_task(self, task: EntryTask[T]) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self._loop.create_future()
        self._thread.jobs.submit(RunTask(task, done))
        return done

    def note_set_aside_kinds(self, kinds: tuple[SetAsideKind, ...]) -> None:
        """Remember the kinds of set-aside entries, as just counted."""
        self.set_aside_kinds = kinds

    def set_aside(self, entry: SpoolEntry, refusal: Refusal) -> None:
        """Set aside a held entry that was refused. It is held until then; if that fails, the drain gets it."""
        done = self._run_task(to_set_aside(refusal, (entry.id,)))
        done.add_done_callback(partial(self._on_set_aside, entry))

    def _on_set_aside(self, entry: SpoolEntry, done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            done.exception()
        self.release(entry)

    def is_held(self, entry: SpoolEntry) -> bool:
        """Whether a confirm may still arrive for this entry: the drain skips it."""
        return entry.id in self._held

    def release(self, entry: SpoolEntry) -> None:
        """No confirm will arrive for this held entry: leave it to the drain."""
        self._held.discard(entry.id)
        self.has_entries.set()

    def remove_confirmed(self, entry: SpoolEntry) -> None:
        """The confirm has arrived late: remove the entry with one of the next commits. It is held until then."""
        removed = self._remove((entry,))
        removed.add_done_callback(lambda _: self._held.discard(entry.id))

    def _next_id(self) -> int:
        """Microseconds, so that ids of claimed, copied and new files never collide.

        After a clock was set back, new ids must still be above those already in the file.
        """
        found = self._thread.file.highest_found_id
        self._last_id = max(self._last_id + 1, found + 1, time.time_ns() // 1000)
        return self._last_id

    def _full_reason(self) -> str:
        stored = self._thread.file.state.bytes
        return f"the spool has {stored} bytes, and spool.max_bytes is {self._settings.max_bytes}"
