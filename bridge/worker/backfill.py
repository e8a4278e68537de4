"""Refills the suppression queue from the archive, after the queue was deleted or lost its bindings.

A marker message says that this is due.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.amqp import exclusive_lock
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, session_errors_as_loss
from bridge.amqp.publish_batch import publish_all
from bridge.amqp.publish_errors import PublishError
from bridge.broker import archive, backfill_marker
from bridge.broker.queue_counts import ready_messages
from bridge.events import canonical_name
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.broker.archive import ArchivedEvent
    from bridge.broker.backfill_marker import PendingBackfill
    from bridge.broker.topology import Names
    from bridge.telemetry.metrics import Metrics

    EnsureTopology = Callable[[AbstractConnection], Awaitable[object]]

log = logs.logger("worker")

_CHECK_SECONDS: Final = 30.0
"""How often the topology is checked: a binding that was removed is made again within this time."""
_RETRY_SECONDS: Final = 5.0
"""The pause after an interruption, or while another worker fills the queue."""
_BATCH: Final = 200
"""How many events may wait for their confirms at the same time."""
_MARK_SECONDS: Final = 1.0
"""How often the marker is moved on to the offset that was reached."""
_MAX_BACKOFF_SECONDS: Final = 5.0


class Backfill:
    """Keeps the topology complete, and publishes the suppressing events to the worker's queue again when some are missing.

    Events that were handled before are recognised by their ids, and change nothing. One worker at a time does this. After
    an interruption the same worker, or another one, goes on at the offset of the last marker.
    """

    def __init__(
        self,
        publisher: Publisher,
        names: Names,
        *,
        suppressing: Collection[str],
        window: int,
        ensure_topology: EnsureTopology,
        metrics: Metrics,
    ) -> None:
        """Make a backfill.

        Args:
            publisher: sends the events, through the default exchange.
            names: of archive and queue.
            suppressing: names of the events that put an address on the list.
            window: how many messages the publisher may have in flight.
            ensure_topology: declares what is missing of the topology.
            metrics: show whether a backfill is due, and count the events.
        """
        self._publisher = publisher
        self._names = names
        self._suppressing = suppressing
        self._batch_size = max(1, min(_BATCH, window // 2))
        self._ensure_topology = ensure_topology
        self.pending = True
        """Whether the queue may miss events: it is due, or nobody has looked yet."""
        self._due = metrics.backfill_due
        self._events = metrics.backfilled
        self._due.set(0)

    async def run(self, connection: AbstractConnection) -> None:
        """Check again and again, until cancelled. The topology must be complete when this begins."""
        while True:
            try:
                with session_errors_as_loss(connection):
                    again = await self.fill_if_due(connection)
                    await asyncio.sleep(_RETRY_SECONDS if again else _CHECK_SECONDS)
                    await self._ensure_topology(connection)
            except (BrokerUnavailableError, TopologyRefusedError) as error:
                log.warning(
                    "the backfill was interrupted; it will be tried again",
                    action="worker.backfill_interrupted",
                    error=str(error),
                )
                await asyncio.sleep(_RETRY_SECONDS)

    async def fill_if_due(self, connection: AbstractConnection) -> bool:
        """Fill the queue if that is due. Returns whether it is still due, because another worker is filling it."""
        is_due = bool(await ready_messages(connection, self._names.backfill))
        self._due.set(is_due)
        self.pending = is_due
        if not is_due:
            return False
        lock = f"{self._names.backfill}.lock"
        if not await exclusive_lock.try_acquire(connection, lock):
            return True
        pending = await backfill_marker.read_markers(connection, self._names.backfill)
        if pending is not None:
            # Bind before the end of the archive is read: later events reach the queue by its binding.
            await self._ensure_topology(connection)
            await self._fill(connection, pending)
        await exclusive_lock.release(connection, lock)
        self._due.set(0)
        self.pending = False
        return False

    async def _fill(self, connection: AbstractConnection, pending: PendingBackfill) -> None:
        log.info(
            "the suppression queue has missed events: filling it from the archive",
            action="worker.backfill",
            offset=pending.offset,
        )
        count, noted_at = 0, asyncio.get_running_loop().time()
        begin = archive.FIRST if pending.offset is None else pending.offset
        async with aclosing(archive.read_archive(connection, self._names.archive, begin=begin)) as found:
            async for events in found:
                count += await self._publish(
                    [event for event in events if canonical_name(event.routing_key) in self._suppressing]
                )
                if asyncio.get_running_loop().time() - noted_at > _MARK_SECONDS:
                    pending = await self._note(connection, pending, events[-1].offset + 1)
                    noted_at = asyncio.get_running_loop().time()
        await backfill_marker.remove_markers(connection, self._names.backfill, pending.ids)
        log.info("the suppression queue is filled again", action="worker.backfilled", events=count)

    async def _note(
        self, connection: AbstractConnection, pending: PendingBackfill, offset: int
    ) -> PendingBackfill:
        """Publish a new marker with this offset, and remove the old ones once it is confirmed."""
        marker = backfill_marker.make_marker(self._names.backfill, offset)
        await self._confirmed([marker])
        await backfill_marker.remove_markers(connection, self._names.backfill, pending.ids)
        return backfill_marker.PendingBackfill(offset, frozenset({marker.message_id}))

    async def _publish(self, events: Sequence[ArchivedEvent]) -> int:
        for begin in range(0, len(events), self._batch_size):
            chunk = events[begin : begin + self._batch_size]
            await self._confirmed(
                [
                    archive.copy_of_event(event, exchange="", routing_key=self._names.suppression)
                    for event in chunk
                ]
            )
            self._events.inc(len(chunk))
        return len(events)

    async def _confirmed(self, messages: Sequence[Message]) -> None:
        """Publish until RabbitMQ has confirmed each, however long that takes."""
        left = list(messages)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=wait_random_exponential(multiplier=0.1, max=_MAX_BACKOFF_SECONDS),
        ):
            with attempt:
                outcomes = await publish_all(self._publisher, left)
                left = [message for message, error in zip(left, outcomes, strict=True) if error]
                for error in filter(None, outcomes):
                    raise error
