"""The archive once more: what is selected goes to one queue, or through the events' exchange as at first."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiolimiter import AsyncLimiter
from aiormq.exceptions import ChannelNotFoundEntity
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from bridge.amqp.backoff import before_next
from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError, may_be_lost
from bridge.amqp.publish_batch import not_confirmed
from bridge.amqp.publish_errors import PublishError, ReturnedError
from bridge.broker import archive, declaring, topology
from bridge.roles.lifetime import running, until
from bridge.roles.publishing import publisher_of
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher
    from bridge.broker.archive import Archived, Place
    from bridge.broker.archive_selection import Selection
    from bridge.settings.sections import Settings

log = logs.logger("replay")

_CONNECT_SECONDS: Final = 10.0
"""For the first connection. One that is lost later is tried again without end."""
_AT_ONCE: Final = 500
"""Events that wait for their confirms together. After an interruption so many may be published a second time."""
_STEP_SECONDS: Final = 0.5
"""How long the offset to go on from may stay where it is while there is little to publish."""
_LONGEST_WAIT_SECONDS: Final = 5.0


class ReplayError(Exception):
    """The replay cannot go on. Its message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be replayed, and to where."""

    selection: Selection
    queue: str | None
    """Through the default exchange to this queue; None is through the events' exchange again."""
    from_offset: int | None = None
    """Where to go on; without, from where the selection's time begins."""
    rate: float | None = None
    """Events a second at the most."""
    dry_run: bool = False
    """Only count."""

    @property
    def begin(self) -> Place:
        if self.from_offset is not None:
            return self.from_offset
        return self.selection.archived_since or archive.BEGINNING


@dataclass(slots=True)
class Progress:
    """How far it has come."""

    first: int | None = None
    """Offset of the first event that was looked at."""
    last: int | None = None
    """Offset of the last one to look at; None where the archive is empty."""
    next: int | None = None
    """Offset to go on from: whatever was selected before it is confirmed."""
    scanned: int = 0
    selected: Counter[str] = field(default_factory=Counter)
    """Name -> how many of the selected events are confirmed; in a dry run, counted."""


async def replay(settings: Settings, order: Order, progress: Progress, moved: Callable[[], None]) -> None:
    """Look through the archive, up to where it ends now, and publish what is selected, at least once.

    It may be cancelled at any time: `progress.next` says where to go on.

    Args:
        settings: where RabbitMQ is.
        order: what, and to where.
        progress: kept up to date.
        moved: told of each step.

    Raises:
        ReplayError: archive, queue or exchange are not there.
        BrokerUnavailableError: RabbitMQ cannot be reached at the start.
    """
    metrics = Metrics()
    names = topology.Names(settings.rabbitmq.prefix)
    reading = Link(settings.rabbitmq, use="consume", metrics=metrics)
    writing = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_of(settings, writing, metrics, window=2 * _AT_ONCE)
    scan = _Scan(order, progress, names, _Confirming(order, names.events, publisher, writing), moved)

    async def session(connection: AbstractConnection) -> None:
        if progress.last is None:  # later, a broker that is starting may not have them yet
            await _standing(connection, names, order)
        reading.opened()
        await scan.session(connection)

    async with AsyncExitStack() as stack:
        if not order.dry_run:
            publish = await stack.enter_async_context(
                running(writing.run(publisher.session), name="replay.publish")
            )
            await _reached(writing, publish)
        read = await stack.enter_async_context(running(reading.run(session), name="replay.read"))
        await _reached(reading, read)
        await read


class _Scan:
    """Goes through the archive on one connection after the other."""

    def __init__(
        self,
        order: Order,
        progress: Progress,
        names: topology.Names,
        confirming: _Confirming,
        moved: Callable[[], None],
    ) -> None:
        self._order = order
        self._progress = progress
        self._stream = names.archive
        self._confirming = confirming
        self._moved = moved
        self._at_once = _AT_ONCE if order.rate is None else max(1, min(_AT_ONCE, int(order.rate)))
        self._clock = asyncio.get_running_loop().time
        self._due = 0.0
        self._taken: list[Archived] = []
        self._scanned = 0

    async def session(self, connection: AbstractConnection) -> None:
        progress = self._progress
        if progress.last is None:
            progress.last = await archive.last_offset(connection, self._stream)
        if progress.last is None:
            return
        if progress.next is None:
            progress.next = self._order.from_offset
        begin = self._order.begin if progress.next is None else progress.next
        self._begin_step()
        reading = archive.read(connection, self._stream, begin=begin, last=progress.last)
        async with aclosing(reading) as found:
            async for events in found:
                if progress.first is None:
                    progress.first = events[0].offset
                await self._look_at(events)
        await self._step(progress.last)

    async def _look_at(self, events: Sequence[Archived]) -> None:
        takes = self._order.selection.takes
        for event in events:
            self._scanned += 1
            if takes(event):
                self._taken.append(event)
                if len(self._taken) >= self._at_once:
                    await self._step(event.offset)
        if self._clock() > self._due:
            await self._step(events[-1].offset)

    async def _step(self, offset: int) -> None:
        """Everything up to this offset has been looked at; when what was taken is confirmed, the place moves on."""
        if self._taken and not self._order.dry_run:
            await self._confirming.publish(self._taken)
        progress = self._progress
        progress.selected.update(event.routing_key for event in self._taken)
        progress.scanned += self._scanned
        progress.next = max(progress.next or 0, offset + 1)
        self._begin_step()
        self._moved()

    def _begin_step(self) -> None:
        """What a lost connection has interrupted is read once more."""
        self._taken = []
        self._scanned = 0
        self._due = self._clock() + _STEP_SECONDS


class _Confirming:
    """Publishes, and returns when RabbitMQ has confirmed it, however long that takes."""

    def __init__(self, order: Order, exchange: str, publisher: Publisher, link: Link) -> None:
        self._exchange = exchange
        self._queue = order.queue
        self._publisher = publisher
        self._link = link
        # In tenths of a second, because timers are not exact enough for thousands of single events.
        bucket = max(1.0, (order.rate or 0) / 10)
        self._limiter = None if order.rate is None else AsyncLimiter(bucket, bucket / order.rate)

    async def publish(self, events: Sequence[Archived]) -> None:
        left = [self._message(event) for event in events]
        if self._limiter is not None:
            for _ in left:
                await self._limiter.acquire()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=before_next(_LONGEST_WAIT_SECONDS),
            before_sleep=_report,
        ):
            with attempt:
                await self._link.up.wait()
                refused = await self._refused(left)
                left = [message for message, _ in refused]
                for _, error in refused:
                    raise error

    def _message(self, event: Archived) -> Message:
        if self._queue is None:
            return archive.again(event, exchange=self._exchange, routing_key=event.routing_key)
        return archive.again(event, exchange="", routing_key=self._queue)

    async def _refused(self, messages: Sequence[Message]) -> list[tuple[Message, PublishError]]:
        refused = await not_confirmed(self._publisher, messages)
        for message, error in refused:
            if isinstance(error, ReturnedError):
                raise ReplayError(f"{error}; is the queue '{message.routing_key}' still there?") from None
        return refused


async def _standing(connection: AbstractConnection, names: topology.Names, order: Order) -> None:
    """Whether there is something to read from, and to write to."""
    if await declaring.depth(connection, names.archive) is None:
        raise ReplayError(
            f"there is no archive '{names.archive}'; see rabbitmq.prefix, or `bridge topology apply`"
        )
    if order.queue is not None and await declaring.depth(connection, order.queue) is None:
        raise ReplayError(f"there is no queue '{order.queue}'")
    if order.queue is None:
        try:
            with may_be_lost(connection):
                channel = await connection.channel(publisher_confirms=False)
                await channel.get_exchange(names.events)
                await channel.close()
        except ChannelNotFoundEntity:
            raise ReplayError(f"there is no exchange '{names.events}'; see `bridge topology apply`") from None


async def _reached(link: Link, work: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await until(link.up, work)
    except TimeoutError:
        raise BrokerUnavailableError(
            f"RabbitMQ cannot be reached in {_CONNECT_SECONDS:g} s: {link.reason}"
        ) from None


def _report(retrying: RetryCallState) -> None:
    log.warning(
        "RabbitMQ does not confirm, trying again",
        action="replay.waiting",
        wait=round(retrying.upcoming_sleep, 2),
        error=str(retrying.outcome.exception() if retrying.outcome else None),
    )
