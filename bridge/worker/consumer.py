"""Consumes the suppression queue, in sessions on one connection after another, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from bridge.amqp.channels import on_consumer_cancelled
from bridge.amqp.errors import (
    BrokerUnavailableError,
    call_errors_as_loss,
    wait_channel_closed,
    wait_closed,
)
from bridge.amqp.message_path import path_of
from bridge.tasks import run_until_first_ends
from bridge.telemetry import logs
from bridge.worker.unacknowledged import UnacknowledgedDeliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel

    from bridge.amqp.message_types import Delivery
    from bridge.settings.sections import Worker
    from bridge.worker.delivery_result import DeliveryResult
    from bridge.worker.unacknowledged import RouteFailure

log = logs.logger("worker")

_TAG: Final = "bridge.worker"
"""The consumer's name on its channel."""
_SET_UP_SECONDS = 10.0
"""How long RabbitMQ may take to set the consumer up. Heartbeats would notice a dead connection much later."""
_CANCEL_SECONDS: Final = 1.0
"""How long RabbitMQ may take to answer `basic.cancel`. After that the consumer stops without an answer."""

IDLE_SECONDS: Final = 30.0
"""After this time without a delivery the consumer is set up again.

RabbitMQ does not always report that a consumer is gone. When a quorum queue is deleted and declared again at once, 3.10.8
sends no `basic.cancel`, still lists the consumer, and delivers nothing to it. (4.0.5 cancels it.)
"""


class DeliveryHandler(Protocol):
    """Handles deliveries until it is cancelled, and reports a result for each, in any order."""

    async def run(self, inbox: asyncio.Queue[Delivery], report: Callable[[DeliveryResult], None]) -> None:
        """Handle what comes in the inbox. Args: the deliveries; a function that takes the result of each."""


class DeliveryCounts(Protocol):
    """Counts the deliveries of one consumer, over all its sessions: `ConsumerMetrics`."""

    @property
    def acknowledged(self) -> int:
        """How many were acknowledged since the start."""

    def watch(self, prefetch: int, unacknowledged: Callable[[], int]) -> None: ...
    def taken(self, delivery: Delivery) -> None: ...
    def acknowledging(
        self, results: Sequence[DeliveryResult], seconds: Sequence[float], now: float
    ) -> None: ...


class Consumer:
    """Consumes one queue, on the connection of its session.

    A delivery is acknowledged after its result: when the list is written, or when RabbitMQ has confirmed the message in
    another queue. When a session ends, its channel is closed, and RabbitMQ requeues the deliveries without a result.
    """

    def __init__(
        self,
        settings: Worker,
        *,
        queue: str,
        handler: DeliveryHandler,
        route_failure: RouteFailure,
        counts: DeliveryCounts,
        on_requeued: Callable[[Sequence[bytes]], None] = lambda _: None,
        idle_after: float = IDLE_SECONDS,
    ) -> None:
        """Make a consumer that does nothing until its first session.

        Args:
            settings: prefetch and how long stopping may take.
            queue: the queue's name.
            handler: handles the deliveries.
            route_failure: moves a message that has failed to another queue; returns the outcome when RabbitMQ has confirmed it.
            counts: counts the deliveries, and how they were handled.
            on_requeued: called at the end of a session with the encoded properties of the deliveries that RabbitMQ requeues.
            idle_after: seconds without a delivery after which the consumer is set up again.
        """
        self._settings = settings
        self._queue = queue
        self._handler = handler
        self._route_failure = route_failure
        self._counts = counts
        self._on_requeued = on_requeued
        self._idle_after = idle_after
        self._deliveries: UnacknowledgedDeliveries | None = None
        self._stopping = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        counts.watch(settings.prefetch, lambda: self.unacknowledged)

    @property
    def acknowledged(self) -> int:
        """How many deliveries have been acknowledged since the start."""
        return self._counts.acknowledged

    @property
    def consuming(self) -> bool:
        """Whether our consumer is set up, as far as RabbitMQ has reported."""
        return self._deliveries is not None

    @property
    def unacknowledged(self) -> int:
        """How many deliveries are not acknowledged yet."""
        return 0 if self._deliveries is None else len(self._deliveries)

    @property
    def unacknowledged_properties(self) -> list[bytes]:
        """The encoded properties of each delivery that is not acknowledged yet."""
        return [] if self._deliveries is None else self._deliveries.properties

    @property
    def latest_properties(self) -> bytes | None:
        """The encoded properties of the delivery that came last, of those that came for the first time; None: there is none."""
        return None if self._deliveries is None else self._deliveries.latest_properties

    async def session(self, connection: AbstractConnection, *, opened: Callable[[], None]) -> None:
        """Consume on this connection. Returns after `stop` was called, when all deliveries are acknowledged.

        Args:
            connection: an open connection of `open_connection`.
            opened: called when the consumer is set up for the first time.

        Raises:
            BrokerUnavailableError: the connection, the channel or the consumer is gone. RabbitMQ will redeliver what
                was not acknowledged.
        """
        if self._stopping.is_set():
            return
        self._at_rest.clear()
        try:
            await self._consume(connection, opened)
            while not self._stopping.is_set():
                await self._consume(connection, _on_reopened)
        finally:
            self._on_requeued(self.unacknowledged_properties)
            self._deliveries = None
            self._at_rest.set()

    async def stop(self) -> None:
        """Take no new deliveries, handle the unacknowledged ones within `drain_timeout`, and leave the rest to be requeued."""
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout + _CANCEL_SECONDS):
                await self._at_rest.wait()

    async def _consume(self, connection: AbstractConnection, opened: Callable[[], None]) -> None:
        cancelled = asyncio.Event()
        deliveries = UnacknowledgedDeliveries(self._route_failure, self._on_acknowledge, self._counts.taken)
        path = path_of(connection)
        with call_errors_as_loss(connection):
            async with asyncio.timeout(_SET_UP_SECONDS):
                channel, consumer = await path.open_delivery_channel(connection, deliveries.take)
                on_consumer_cancelled(channel, cancelled.set)
                await channel.basic_qos(prefetch_count=self._settings.prefetch)
                await channel.basic_consume(self._queue, consumer, consumer_tag=_TAG)
        self._deliveries = deliveries
        opened()
        await run_until_first_ends(
            handle=self._handler.run(deliveries.inbox, deliveries.report),
            acknowledge=deliveries.acknowledge(connection, channel),
            route_failures=deliveries.route_failures(),
            stop=self._finish_in_flight(connection, channel, deliveries),
            cancelled=self._cancelled(cancelled),
            idle=self._idle(deliveries),
            channel=wait_channel_closed(channel),
            connection=wait_closed(connection),
        )
        await path.close_delivery_channel(connection, channel)

    async def _finish_in_flight(
        self, connection: AbstractConnection, channel: AiormqChannel, deliveries: UnacknowledgedDeliveries
    ) -> None:
        await self._stopping.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                with call_errors_as_loss(connection):
                    # RabbitMQ that does not answer takes no acknowledgement either.
                    await channel.basic_cancel(_TAG)
            async with asyncio.timeout(self._settings.drain_timeout):
                await deliveries.wait_until_empty()
        log.info(
            "stopped consuming",
            action="worker.stopped_consuming",
            queue=self._queue,
            requeued=len(deliveries),
        )

    def _on_acknowledge(self, results: Sequence[DeliveryResult], seconds: Sequence[float]) -> None:
        self._counts.acknowledging(results, seconds, time.time())

    async def _cancelled(self, cancelled: asyncio.Event) -> None:
        await cancelled.wait()
        raise BrokerUnavailableError(f"RabbitMQ cancelled the consumer of queue '{self._queue}'")

    async def _idle(self, deliveries: UnacknowledgedDeliveries) -> None:
        """Wait until there are no unacknowledged deliveries, and have been none for `idle_after` seconds."""
        taken = -1
        while deliveries or deliveries.taken != taken or self._stopping.is_set():
            taken = deliveries.taken
            await asyncio.sleep(self._idle_after)


def _on_reopened() -> None:
    """Consuming again on the same connection is not reported."""
