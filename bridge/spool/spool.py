"""The spool: where an event is durable while RabbitMQ is not there."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.spool.errors import SpoolFullError
from bridge.spool.folder import SpoolError
from bridge.spool.refused_entries import to_set_aside
from bridge.spool.spool_file import OVERHEAD, Entry
from bridge.spool.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path
    from typing import Self

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.refused_entries import AsideSeen, Refusal, Task
    from bridge.spool.state import SpoolState

T = TypeVar("T")

LARGEST_ENTRY: Final = 64 * 1024 + OVERHEAD
"""Bytes: the handler takes no larger body."""
_MOST_WAITING: Final = 20_000
"""Events that are not on the disk yet: what a slow disk takes in about a second."""
_MOST_WAITING_BYTES: Final = 64 * 1024**2


class Spool:
    """This process's spool. What `put` has returned for is on the disk."""

    def __init__(self, settings: SpoolSettings, *, writer: Writer, filled: asyncio.Event) -> None:
        """Make a spool; `open` does, with all it needs.

        Args:
            settings: how much it may hold.
            writer: does what is asked, and is at work already.
            filled: set when there is something to drain.
        """
        self._settings = settings
        self._writer = writer
        self._last_id = 0
        self._waiting = 0
        self._waiting_bytes = 0
        self._held: set[int] = set()
        self.aside: tuple[AsideSeen, ...] = ()
        """What is set aside, as it was when somebody last looked."""
        self.filled = filled
        """Set when there is something to drain."""

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpoolSettings) -> AsyncIterator[Self]:
        """The spool in this folder, for as long as the context lasts.

        A folder that cannot be used does not raise: the state says so, every `put` is refused, and it is tried
        again.
        """
        filled = asyncio.Event()
        async with Writer.open(settings, found=filled.set) as writer:
            yield cls(settings, writer=writer, filled=filled)

    @property
    def state(self) -> SpoolState:
        """How it is now. It counts as writable while the largest event fits."""
        state = self._writer.state
        if state.writable and state.bytes + LARGEST_ENTRY > self._settings.max_bytes:
            return replace(state, writable=False, reason=self._full())
        return state

    @property
    def max_bytes(self) -> int:
        """How much it may hold."""
        return self._settings.max_bytes

    @property
    def paths(self) -> list[Path]:
        """The file that this process has, if it has one."""
        path = self._writer.path
        return [path] if path else []

    def keep(
        self,
        received_at: int,
        body: bytes,
        done: Callable[[Entry | SpoolError], None],
        *,
        held: bool = False,
    ) -> None:
        """Keep an event, and have it told when it is on the disk, or why it is not.

        Args:
            received_at: Unix milliseconds.
            body: the provider's bytes.
            done: called once, before this returns or later. It must not raise.
            held: the drain leaves it alone until `release`, for a confirm may still come.
        """
        if (stalled := self._writer.stalled) is not None:
            done(SpoolError(stalled))
            return
        size = len(body) + OVERHEAD
        if self._writer.kept_bytes + self._waiting_bytes + size > self._settings.max_bytes:
            done(SpoolFullError(self._full()))
            return
        if self._waiting >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            done(SpoolFullError(f"{self._waiting} events wait for the spool's disk already"))
            return
        entry = Entry(self._next_id(), received_at, body)
        if held:
            self._held.add(entry.id)
        self._waiting += 1
        self._waiting_bytes += size
        self._writer.put(entry, partial(self._written, entry, done))

    def _written(
        self, entry: Entry, done: Callable[[Entry | SpoolError], None], refusal: SpoolError | None
    ) -> None:
        self._waiting -= 1
        self._waiting_bytes -= len(entry.body) + OVERHEAD
        if refusal is not None:
            self._held.discard(entry.id)
            done(refusal)
            return
        self.filled.set()
        done(entry)

    async def put(self, received_at: int, body: bytes, *, held: bool = False) -> Entry:
        """As `keep`; it is on the disk when this returns.

        Raises:
            SpoolFullError: a limit is reached.
            SpoolError: the disk refuses.
        """
        told: asyncio.Future[Entry | SpoolError] = asyncio.get_running_loop().create_future()
        self.keep(
            received_at, body, lambda outcome: None if told.done() else told.set_result(outcome), held=held
        )
        outcome = await told
        if isinstance(outcome, SpoolError):
            raise outcome
        return outcome

    async def read(self, after: int, limit: int) -> list[Entry]:
        """The oldest entries with an id above `after`.

        Raises:
            SpoolError: the disk refuses.
        """
        return await self._writer.read(after, limit)

    async def remove(self, entries: Sequence[Entry]) -> None:
        """These are in RabbitMQ. Where the disk refuses, they are removed with a later commit."""
        if entries:
            await self._writer.remove(tuple(entries))

    async def do(self, task: Task[T]) -> T:
        """Do something with the entries that are set aside, in one transaction, which is on the disk when this returns.

        Raises:
            SpoolError: the disk refuses; nothing was changed.
        """
        return await self._writer.do(task)

    def seen_aside(self, aside: tuple[AsideSeen, ...]) -> None:
        """Somebody has looked at what is set aside."""
        self.aside = aside

    def set_aside(self, entry: Entry, refusal: Refusal) -> None:
        """An entry that is held, and refused: it is set aside, and held until then; else the drain has it after all."""
        done = self._writer.do(to_set_aside(refusal, (entry.id,)))
        done.add_done_callback(partial(self._set_aside, entry))

    def _set_aside(self, entry: Entry, done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            done.exception()
        self.release(entry)

    def is_held(self, entry: Entry) -> bool:
        return entry.id in self._held

    def release(self, entry: Entry) -> None:
        """The confirm that was waited for will not come any more: let the drain have it."""
        self._held.discard(entry.id)
        self.filled.set()

    def settle(self, entry: Entry) -> None:
        """The confirm came after all: the entry goes with one of the next commits, and is held until then."""
        removed = self._writer.remove((entry,))
        removed.add_done_callback(lambda _: self._held.discard(entry.id))

    def _next_id(self) -> int:
        """Microseconds, so that ids of files that are taken over, or begun anew, never meet.

        A clock that was set back must not put new entries before those that a file held already.
        """
        self._last_id = max(self._last_id + 1, self._writer.newest_found + 1, time.time_ns() // 1000)
        return self._last_id

    def _full(self) -> str:
        return (
            f"the spool holds {self._writer.kept_bytes} bytes, "
            f"and spool.max_bytes is {self._settings.max_bytes}"
        )
