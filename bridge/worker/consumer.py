"""Consumes the suppression queue, and acknowledges the deliveries that are handled, many in one frame."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from bridge.amqp.aiormq_internals import close_routed_channel, open_routed_channel
from bridge.amqp.deliveries import DeliveryAssembler, unused_consumer_callback
from bridge.amqp.errors import (
    BrokerUnavailableError,
    as_connection_loss,
    wait_channel_closed,
    wait_closed,
)
from bridge.tasks import run_until_first_ends, task_group
from bridge.telemetry import logs
from bridge.worker.consumer_metrics import ConsumerMetrics
from bridge.worker.delivery_result import DeliveryResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel

    from bridge.amqp.deliveries import Delivery
    from bridge.settings.sections import Worker
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.failures import Failure

    RouteFailure = Callable[[Delivery, Failure], Awaitable[str]]
    _OnAcknowledge = Callable[[Sequence[DeliveryResult], Sequence[float]], None]

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

    async def run(self, inbox: asyncio.Queue[Delivery], settle: Callable[[DeliveryResult], None]) -> None: ...


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
        work: DeliveryHandler,
        part: RouteFailure,
        metrics: Metrics,
        idle: float = IDLE_SECONDS,
    ) -> None:
        """Make a consumer that does nothing until its first session.

        Args:
            settings: prefetch and how long stopping may take.
            queue: the queue's name.
            work: handles the deliveries.
            part: moves a message that has failed to another queue; returns the outcome when RabbitMQ has confirmed it.
            metrics: counts the deliveries, and how they were handled.
            idle: seconds without a delivery after which the consumer is set up again.
        """
        self._settings = settings
        self._queue = queue
        self._work = work
        self._part = part
        self._counts = ConsumerMetrics(metrics)
        self._idle_seconds = idle
        self._hand: _UnacknowledgedDeliveries | None = None
        self._stopping = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        metrics.prefetch.set(settings.prefetch)
        metrics.before_scrape(lambda: metrics.unacknowledged_messages.set(self.unacknowledged))

    @property
    def acknowledged(self) -> int:
        """How many deliveries have been acknowledged since the start."""
        return self._counts.acknowledged

    @property
    def consuming(self) -> bool:
        """Whether our consumer is set up, as far as RabbitMQ has reported."""
        return self._hand is not None

    @property
    def unacknowledged(self) -> int:
        """How many deliveries are not acknowledged yet."""
        return 0 if self._hand is None else len(self._hand)

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
            self._hand = None
            self._at_rest.set()

    async def stop(self) -> None:
        """Take no new deliveries, handle the unacknowledged ones within `drain_timeout`, and leave the rest to be requeued."""
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout + _CANCEL_SECONDS):
                await self._at_rest.wait()

    async def _consume(self, connection: AbstractConnection, opened: Callable[[], None]) -> None:
        cancelled = asyncio.Event()
        hand = _UnacknowledgedDeliveries(self._part, self._settled, self._counts.taken)
        with as_connection_loss(connection):
            async with asyncio.timeout(_SET_UP_SECONDS):
                channel = await open_routed_channel(connection, DeliveryAssembler(hand.take).handle)
                channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
                await channel.basic_qos(prefetch_count=self._settings.prefetch)
                await channel.basic_consume(self._queue, unused_consumer_callback, consumer_tag=_TAG)
        self._hand = hand
        opened()
        await run_until_first_ends(
            work=self._work.run(hand.inbox, hand.settle),
            acknowledge=hand.acknowledge(connection, channel),
            route_failures=hand.route_failures(),
            stop=self._drain(connection, channel, hand),
            cancelled=self._cancelled(cancelled),
            idle=self._idle(hand),
            channel=wait_channel_closed(channel),
            connection=wait_closed(connection),
        )
        await close_routed_channel(connection, channel)

    async def _drain(
        self, connection: AbstractConnection, channel: AiormqChannel, hand: _UnacknowledgedDeliveries
    ) -> None:
        await self._stopping.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                with as_connection_loss(connection):
                    await channel.basic_cancel(
                        _TAG
                    )  # RabbitMQ that does not answer takes no acknowledgement either
            async with asyncio.timeout(self._settings.drain_timeout):
                await hand.empty()
        log.info("stopped consuming", action="worker.drained", requeued=len(hand))

    def _settled(self, verdicts: Sequence[DeliveryResult], seconds: Sequence[float]) -> None:
        self._counts.settled(verdicts, seconds, time.time())

    async def _cancelled(self, cancelled: asyncio.Event) -> None:
        await cancelled.wait()
        raise BrokerUnavailableError(f"RabbitMQ cancelled the consumer of queue '{self._queue}'")

    async def _idle(self, hand: _UnacknowledgedDeliveries) -> None:
        """Wait until there are no unacknowledged deliveries, and have been none for `idle` seconds."""
        taken = -1
        while hand or hand.taken != taken or self._stopping.is_set():
            taken = hand.taken
            await asyncio.sleep(self._idle_seconds)


def _on_reopened() -> None:
    """Consuming again on the same connection is not reported."""


class _UnacknowledgedDeliveries:
    """The deliveries of one channel that are not acknowledged yet, and those that wait to be."""

    def __init__(
        self,
        route_failure: RouteFailure,
        on_acknowledge: _OnAcknowledge,
        on_delivery: Callable[[Delivery], None] = lambda _: None,
    ) -> None:
        self.inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        self.taken = 0
        self._route_failure = route_failure
        self._on_acknowledge = on_acknowledge
        self._on_delivery = on_delivery
        self._held: dict[int, float] = {}
        """Delivery tag -> monotonic seconds of its arrival."""
        self._settled: list[DeliveryResult] = []
        self._to_route: asyncio.Queue[DeliveryResult] = asyncio.Queue()
        self._something_settled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, delivery: Delivery) -> None:
        self.taken += 1
        self._held[delivery.tag] = time.monotonic()
        self._empty.clear()
        self._on_delivery(delivery)
        self.inbox.put_nowait(delivery)

    def settle(self, verdict: DeliveryResult) -> None:
        if verdict.failure is not None:
            self._to_route.put_nowait(verdict)
        else:
            self._done(verdict)

    async def route_failures(self) -> None:
        async with task_group() as routes:
            while True:
                routes.create_task(self._route(await self._to_route.get()), name="worker.route_failure")

    async def acknowledge(self, connection: AbstractConnection, channel: AiormqChannel) -> None:
        """Acknowledge what is handled, as it comes: in one frame up to the oldest delivery that is not handled yet."""
        while True:
            await self._something_settled.wait()
            self._something_settled.clear()
            verdicts, self._settled = self._settled, []
            settled = sorted(verdict.delivery.tag for verdict in verdicts)
            now = time.monotonic()
            self._on_acknowledge(verdicts, [now - self._held.pop(tag, now) for tag in settled])
            oldest_held = min(self._held, default=settled[-1] + 1)
            together_up_to = max((tag for tag in settled if tag < oldest_held), default=None)
            alone = [tag for tag in settled if tag > oldest_held]
            with as_connection_loss(connection):
                if together_up_to is not None:
                    await channel.basic_ack(together_up_to, multiple=True)
                for tag in alone:
                    # Wait for the write once, not for each frame.
                    await channel.basic_ack(tag, wait=tag == alone[-1])
            if not self._held:
                self._empty.set()

    async def empty(self) -> None:
        """Wait until every delivery is acknowledged."""
        await self._empty.wait()

    async def _route(self, verdict: DeliveryResult) -> None:
        if verdict.failure is not None:
            outcome = await self._route_failure(verdict.delivery, verdict.failure)
            self._done(DeliveryResult(verdict.delivery, outcome))

    def _done(self, verdict: DeliveryResult) -> None:
        self._settled.append(verdict)
        self._something_settled.set()
