"""The deliveries of one channel that are not acknowledged yet, and how they are acknowledged, many in one frame."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bridge.amqp.errors import call_errors_as_loss
from bridge.tasks import task_group
from bridge.worker.delivery_result import DeliveryResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel

    from bridge.amqp.message_types import Delivery
    from bridge.worker.failures import Failure

    RouteFailure = Callable[[Delivery, Failure], Awaitable[str]]
    OnAcknowledge = Callable[[Sequence[DeliveryResult], Sequence[float]], None]


class UnacknowledgedDeliveries:
    """Takes deliveries, collects their results, and acknowledges those that have one. Its length is how many are left."""

    def __init__(
        self,
        route_failure: RouteFailure,
        on_acknowledge: OnAcknowledge,
        on_delivery: Callable[[Delivery], None] = lambda _: None,
    ) -> None:
        """Make one without deliveries.

        Args:
            route_failure: moves a message that has failed to another queue; returns the outcome when RabbitMQ has
                confirmed it.
            on_acknowledge: called with results that are about to be acknowledged, and how many seconds each delivery was
                unacknowledged, in any order.
            on_delivery: called for each delivery.
        """
        self.inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        """The deliveries that no handler has taken yet."""
        self.taken = 0
        """How many deliveries have come on this channel."""
        self.latest_properties: bytes | None = None
        """The encoded properties of the last one that was not redelivered."""
        self._route_failure = route_failure
        self._on_acknowledge = on_acknowledge
        self._on_delivery = on_delivery
        self._held: dict[int, float] = {}
        """Delivery tag -> monotonic seconds of its arrival."""
        self._properties: dict[int, bytes] = {}
        """Delivery tag -> its encoded properties."""
        self._done: list[DeliveryResult] = []
        """Results of deliveries that can be acknowledged."""
        self._to_route: asyncio.Queue[DeliveryResult] = asyncio.Queue()
        self._something_done = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def properties(self) -> list[bytes]:
        """The encoded properties of each delivery that is not acknowledged."""
        return list(self._properties.values())

    def take(self, delivery: Delivery) -> None:
        """Take a delivery that has just come."""
        self.taken += 1
        self._held[delivery.tag] = time.monotonic()
        self._properties[delivery.tag] = delivery.properties
        if not delivery.redelivered:
            self.latest_properties = delivery.properties
        self._empty.clear()
        self._on_delivery(delivery)
        self.inbox.put_nowait(delivery)

    def report(self, result: DeliveryResult) -> None:
        """The handler's result of a delivery. It is acknowledged next, or once its message is in another queue."""
        if result.failure is not None:
            self._to_route.put_nowait(result)
        else:
            self._add(result)

    async def route_failures(self) -> None:
        """Move messages that have failed to another queue, all at once, until cancelled."""
        async with task_group() as routes:
            while True:
                routes.create_task(self._route(await self._to_route.get()), name="worker.route_failure")

    async def acknowledge(self, connection: AbstractConnection, channel: AiormqChannel) -> None:
        """Acknowledge what is handled, until cancelled: in one frame up to the oldest delivery that is not handled yet.

        Raises:
            BrokerUnavailableError: the connection or the channel is gone.
        """
        while True:
            await self._something_done.wait()
            self._something_done.clear()
            results, self._done = self._done, []
            tags = sorted(result.delivery.tag for result in results)
            now = time.monotonic()
            for tag in tags:
                self._properties.pop(tag, None)
            self._on_acknowledge(results, [now - self._held.pop(tag, now) for tag in tags])
            oldest_held = min(self._held, default=tags[-1] + 1)
            all_up_to = max((tag for tag in tags if tag < oldest_held), default=None)
            alone = [tag for tag in tags if tag > oldest_held]
            with call_errors_as_loss(connection):
                if all_up_to is not None:
                    await channel.basic_ack(all_up_to, multiple=True)
                for tag in alone:
                    # Wait for the write once, not for each frame.
                    await channel.basic_ack(tag, wait=tag == alone[-1])
            if not self._held:
                self._empty.set()

    async def wait_until_empty(self) -> None:
        """Wait until every delivery is acknowledged."""
        await self._empty.wait()

    async def _route(self, result: DeliveryResult) -> None:
        if result.failure is not None:
            outcome = await self._route_failure(result.delivery, result.failure)
            self._add(DeliveryResult(result.delivery, outcome))

    def _add(self, result: DeliveryResult) -> None:
        self._done.append(result)
        self._something_done.set()
