"""Reads the archive once, from a time or an offset to its present end, and hands over what is selected."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker import archive
from bridge.broker.archive_selection import received_at
from bridge.tasks import wait_while_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.connection import Link
    from bridge.broker.archive import ArchivedEvent, StartPosition
    from bridge.broker.archive_selection import ArchiveSelection

    Take = Callable[[Sequence[ArchivedEvent]], Awaitable[None]]

BATCH: Final = 500
"""How many selected events are handed over at once, at the most."""
_CONNECT_SECONDS: Final = 10.0
"""For the first connection. A connection that is lost later is retried for ever."""
_STEP_SECONDS: Final = 0.5
"""The longest time between two updates of the progress."""


@dataclass(slots=True)
class ArchiveProgress:
    """How far the reading has come."""

    first: int | None = None
    """Offset of the first event that was read."""
    last: int | None = None
    """Offset of the last event to read; None if the archive is empty."""
    next: int | None = None
    """Offset to go on from: everything selected before it was taken."""
    reached: int | None = None
    """When the event that was read last was received, Unix milliseconds."""
    scanned: int = 0
    selected: Counter[str] = field(default_factory=Counter)
    """Name -> number of selected events that were taken."""


class ArchiveScan:
    """Reads the archive, on one connection after the other."""

    def __init__(
        self,
        stream: str,
        selection: ArchiveSelection,
        progress: ArchiveProgress,
        *,
        take: Take,
        moved: Callable[[], None],
        from_offset: int | None = None,
        batch_size: int = BATCH,
    ) -> None:
        """Make a scan.

        Args:
            stream: name of the archive.
            selection: which events are taken.
            progress: is kept up to date.
            take: is called with the selected events, in order. After a lost connection some come again.
            moved: called after each step.
            from_offset: where to begin; None: at the start of the selection's time.
            batch_size: how many events `take` gets at the most.
        """
        self._stream = stream
        self._selection = selection
        self._progress = progress
        self._take = take
        self._moved = moved
        self._from_offset = from_offset
        self._batch_size = batch_size
        self._clock = asyncio.get_running_loop().time
        self._due = 0.0
        self._taken: list[ArchivedEvent] = []
        self._scanned = 0

    @property
    def _begin(self) -> StartPosition:
        if self._from_offset is not None:
            return self._from_offset
        return self._selection.archived_since or archive.FIRST

    async def session(self, connection: AbstractConnection) -> None:
        progress = self._progress
        if progress.last is None:
            progress.last = await archive.last_offset(connection, self._stream)
        if progress.last is None:
            return
        if progress.next is None:
            progress.next = self._from_offset
        begin = self._begin if progress.next is None else progress.next
        self._begin_step()
        reading = archive.read_archive(connection, self._stream, begin=begin, last=progress.last)
        async with aclosing(reading) as found:
            async for events in found:
                if progress.first is None:
                    progress.first = events[0].offset
                await self._look_at(events)
        await self._step(progress.last)

    async def _look_at(self, events: Sequence[ArchivedEvent]) -> None:
        takes = self._selection.takes
        for event in events:
            self._scanned += 1
            if takes(event):
                self._taken.append(event)
                if len(self._taken) >= self._batch_size:
                    await self._step(event.offset)
        self._progress.reached = received_at(events[-1])
        if self._clock() > self._due:
            await self._step(events[-1].offset)

    async def _step(self, offset: int) -> None:
        """Hand over what was selected up to this offset; when it is taken, move the offset on."""
        if self._taken:
            await self._take(self._taken)
        progress = self._progress
        progress.selected.update(event.routing_key for event in self._taken)
        progress.scanned += self._scanned
        progress.next = max(progress.next or 0, offset + 1)
        self._begin_step()
        self._moved()

    def _begin_step(self) -> None:
        """Begin a step. After a lost connection the interrupted step is repeated."""
        self._taken = []
        self._scanned = 0
        self._due = self._clock() + _STEP_SECONDS


async def wait_connected(link: Link, work: asyncio.Task[None]) -> None:
    """Wait for the first connection.

    Raises:
        BrokerUnavailableError: there is none in time.
    """
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await wait_while_running(link.up, work)
    except TimeoutError:
        raise BrokerUnavailableError(
            f"RabbitMQ cannot be reached in {_CONNECT_SECONDS:g} s: {link.reason}"
        ) from None
