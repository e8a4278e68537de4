"""Replays events from the archive: to one queue, or through the events' exchange again."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiolimiter import AsyncLimiter
from aiormq.exceptions import ChannelNotFoundEntity
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from bridge.amqp.backoff import tenacity_wait
from bridge.amqp.connection import Link
from bridge.amqp.errors import call_errors_as_loss
from bridge.amqp.publish_batch import publish_all
from bridge.amqp.publish_errors import PublishError, ReturnedError
from bridge.broker import archive, topology
from bridge.broker.queue_counts import queue_exists
from bridge.operations.archive_scan import BATCH, ArchiveProgress, ArchiveScan, wait_connected
from bridge.roles.publishing import make_publisher
from bridge.tasks import background_task
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.broker.archive import ArchivedEvent
    from bridge.broker.archive_selection import ArchiveSelection
    from bridge.settings.sections import Settings

log = logs.logger("operations")

_MAX_BACKOFF_SECONDS: Final = 5.0


_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_.:@#,/+ -]{1,255}")
"""The names that our library can send, of those that RabbitMQ allows."""


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


def is_queue_name(text: str) -> bool:
    """Whether a queue can have this name."""
    return _QUEUE_NAME.fullmatch(text) is not None


async def replay(
    settings: Settings, order: ReplayOrder, progress: ArchiveProgress, moved: Callable[[], None]
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
    publisher = make_publisher(settings, writing, metrics, window=2 * BATCH)
    confirming = _ConfirmedPublisher(order, names.events, publisher, writing)
    scan = ArchiveScan(
        names.archive,
        order.selection,
        progress,
        take=_count_only if order.dry_run else confirming.publish,
        moved=moved,
        from_offset=order.from_offset,
        batch_size=BATCH if order.rate is None else max(1, min(BATCH, int(order.rate))),
    )

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
            await wait_connected(writing, publish)
        read = await stack.enter_async_context(background_task(reading.run(session), name="replay.read"))
        await wait_connected(reading, read)
        await read


async def _count_only(events: Sequence[ArchivedEvent]) -> None:
    """For a dry run."""


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


def _log_retry(retrying: RetryCallState) -> None:
    log.warning(
        "RabbitMQ does not confirm: trying again",
        action="replay.waiting",
        wait=round(retrying.upcoming_sleep, 2),
        error=str(retrying.outcome.exception() if retrying.outcome else None),
    )
