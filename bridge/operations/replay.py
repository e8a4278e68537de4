"""Replays events from the archive: to one queue, or through the events' exchange again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiolimiter import AsyncLimiter
from aiormq.exceptions import ChannelNotFoundEntity
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from bridge.amqp.backoff import tenacity_wait
from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError, call_errors_as_loss
from bridge.amqp.publish_batch import publish_all
from bridge.amqp.publish_errors import PublishError, ReturnedError
from bridge.broker import archive, topology
from bridge.broker.queue_counts import queue_exists
from bridge.roles.publishing import make_publisher
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.broker.archive import ArchivedEvent, StartPosition
    from bridge.broker.archive_selection import ArchiveSelection
    from bridge.settings.sections import Settings

log = logs.logger("operations")

_CONNECT_SECONDS: Final = 10.0
"""For the first connection. A connection that is lost later is retried for ever."""
_BATCH: Final = 500
"""How many events may wait for confirms. After an interruption this many may be published twice."""
_STEP_SECONDS: Final = 0.5
"""The longest time between two updates of the progress."""
_MAX_BACKOFF_SECONDS: Final = 5.0


class ReplayError(Exception):
    """The replay cannot go on. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What to replay, and where to."""

    selection: ArchiveSelection
    queue: str | None
    """Publish to this queue, through the default exchange; None: through the events' exchange."""
    from_offset: int | None = None
    """The offset to begin at; None: begin at the start of the selection's time."""
    rate: float | None = None
    """The maximum number of events a second."""
    dry_run: bool = False
    """Count only."""

    @property
    def begin(self) -> StartPosition:
        if self.from_offset is not None:
            return self.from_offset
        return self.selection.archived_since or archive.FIRST


@dataclass(slots=True)
class ReplayProgress:
    """The progress of a replay."""

    first: int | None = None
    """Offset of the first event that was read."""
    last: int | None = None
    """Offset of the last event to read; None if the archive is empty."""
    next: int | None = None
    """Offset to go on from: everything selected before it is confirmed."""
    scanned: int = 0
    selected: Counter[str] = field(default_factory=Counter)
    """Name -> number of selected events that are confirmed; in a dry run, that were counted."""


async def replay(
    settings: Settings, order: ReplayOrder, progress: ReplayProgress, moved: Callable[[], None]
) -> None:
    """Read the archive up to its present end, and publish the selected events, at least once.

    It may be cancelled at any time: `progress.next` says where to go on.

    Args:
        settings: RabbitMQ's URLs.
        order: what to replay, and where to.
        progress: is kept up to date.
        moved: called after each step.

    Raises:
        ReplayError: there is no such archive, queue or exchange.
        BrokerUnavailableError: RabbitMQ cannot be reached at the start.
    """
    metrics = Metrics()
    names = topology.Names(settings.rabbitmq.prefix)
    reading = Link(settings.rabbitmq, use="consume", metrics=metrics)
    writing = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, writing, metrics, window=2 * _BATCH)
    scan = _Scan(order, progress, names, _ConfirmedPublisher(order, names.events, publisher, writing), moved)

    async def session(connection: AbstractConnection) -> None:
        if progress.last is None:  # later, a broker that is starting may not have them yet
            await _check_endpoints(connection, names, order)
        reading.opened()
        await scan.session(connection)

    async with AsyncExitStack() as stack:
        if not order.dry_run:
            publish = await stack.enter_async_context(
                background_task(writing.run(publisher.session), name="replay.publish")
            )
            await _wait_connected(writing, publish)
        read = await stack.enter_async_context(background_task(reading.run(session), name="replay.read"))
        await _wait_connected(reading, read)
        await read


class _Scan:
    """Reads the archive, on one connection after the other."""

    def __init__(
        self,
        order: ReplayOrder,
        progress: ReplayProgress,
        names: topology.Names,
        confirming: _ConfirmedPublisher,
        moved: Callable[[], None],
    ) -> None:
        self._order = order
        self._progress = progress
        self._stream = names.archive
        self._confirming = confirming
        self._moved = moved
        self._batch_size = _BATCH if order.rate is None else max(1, min(_BATCH, int(order.rate)))
        self._clock = asyncio.get_running_loop().time
        self._due = 0.0
        self._taken: list[ArchivedEvent] = []
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
        reading = archive.read_archive(connection, self._stream, begin=begin, last=progress.last)
        async with aclosing(reading) as found:
            async for events in found:
                if progress.first is None:
                    progress.first = events[0].offset
                await self._look_at(events)
        await self._step(progress.last)

    async def _look_at(self, events: Sequence[ArchivedEvent]) -> None:
        takes = self._order.selection.takes
        for event in events:
            self._scanned += 1
            if takes(event):
                self._taken.append(event)
                if len(self._taken) >= self._batch_size:
                    await self._step(event.offset)
        if self._clock() > self._due:
            await self._step(events[-1].offset)

    async def _step(self, offset: int) -> None:
        """Publish what was selected up to this offset; when it is confirmed, move the offset on."""
        if self._taken and not self._order.dry_run:
            await self._confirming.publish(self._taken)
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


class _ConfirmedPublisher:
    """Publishes events, and waits until RabbitMQ has confirmed them, however long that takes."""

    def __init__(self, order: ReplayOrder, exchange: str, publisher: Publisher, link: Link) -> None:
        self._exchange = exchange
        self._queue = order.queue
        self._publisher = publisher
        self._link = link
        # In steps of a tenth of a second: timers are not exact enough for thousands of single events.
        bucket = max(1.0, (order.rate or 0) / 10)
        self._limiter = None if order.rate is None else AsyncLimiter(bucket, bucket / order.rate)

    async def publish(self, events: Sequence[ArchivedEvent]) -> None:
        left = [self._message(event) for event in events]
        if self._limiter is not None:
            for _ in left:
                await self._limiter.acquire()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=tenacity_wait(_MAX_BACKOFF_SECONDS),
            before_sleep=_log_retry,
        ):
            with attempt:
                await self._link.up.wait()
                outcomes = await publish_all(self._publisher, left)
                for message, error in zip(left, outcomes, strict=True):
                    if isinstance(error, ReturnedError):
                        raise ReplayError(f"{error}; is the queue '{message.routing_key}' still there?")
                left = [message for message, error in zip(left, outcomes, strict=True) if error]
                for error in filter(None, outcomes):
                    raise error

    def _message(self, event: ArchivedEvent) -> Message:
        if self._queue is None:
            return archive.copy_of_event(event, exchange=self._exchange, routing_key=event.routing_key)
        return archive.copy_of_event(event, exchange="", routing_key=self._queue)


async def _check_endpoints(connection: AbstractConnection, names: topology.Names, order: ReplayOrder) -> None:
    """Raise ReplayError if the archive, the queue or the exchange is missing."""
    if not await queue_exists(connection, names.archive):
        raise ReplayError(
            f"there is no archive '{names.archive}'; see rabbitmq.prefix, or `bridge topology apply`"
        )
    if order.queue is not None and not await queue_exists(connection, order.queue):
        raise ReplayError(f"there is no queue '{order.queue}'")
    if order.queue is None:
        try:
            with call_errors_as_loss(connection):
                channel = await connection.channel(publisher_confirms=False)
                await channel.get_exchange(names.events)
                await channel.close()
        except ChannelNotFoundEntity:
            raise ReplayError(f"there is no exchange '{names.events}'; see `bridge topology apply`") from None


async def _wait_connected(link: Link, work: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await wait_while_running(link.up, work)
    except TimeoutError:
        raise BrokerUnavailableError(
            f"RabbitMQ cannot be reached in {_CONNECT_SECONDS:g} s: {link.reason}"
        ) from None


def _log_retry(retrying: RetryCallState) -> None:
    log.warning(
        "RabbitMQ does not confirm: trying again",
        action="replay.waiting",
        wait=round(retrying.upcoming_sleep, 2),
        error=str(retrying.outcome.exception() if retrying.outcome else None),
    )
