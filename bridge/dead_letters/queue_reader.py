"""Reads a queue whose messages wait for a person. Few are acknowledged; the others are requeued in their order."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Self, TypeVar

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp import exclusive_lock
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.amqp.properties import decode_properties
from bridge.broker.queue_counts import queue_counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.amqp.properties import Properties

T = TypeVar("T")
"""What is known of a message: a `DeadLetter`, or a `QuarantinedBody`."""

MAX_HELD: Final = 10_000
"""The prefetch: how many messages are unacknowledged at once, and so how far into the queue a reader can see.

It must be the same for every reader, always. RabbitMQ (3.10.8 and 4.0.5 alike) delivers requeued messages first, but
puts them behind those that were requeued earlier. A reader that takes fewer than had been requeued would change the order.
With one prefetch for all, every reader takes at least what was requeued before.

Messages are requeued by closing the channel, as Ctrl-C and SIGKILL do too: there is only one way. Each time counts as a
delivery. By default, a quorum queue on RabbitMQ 4 drops a message at its 21st, so the queue needs a far larger
`x-delivery-limit`. (-1 means no limit on 4.0, but on 3.10 it drops every message.)
"""

BATCH_SIZE: Final = 50
"""How many messages are handled together."""

MAX_HOLD_SECONDS: Final = 900.0
"""After this time the rest is requeued: RabbitMQ closes a channel with a message unacknowledged for 30 minutes."""

_LOCK_TIMEOUT_SECONDS: Final = 10.0
"""Timeout for another reader to finish."""
_SILENT_SECONDS: Final = 10.0
"""After this time without a message, before the last one, RabbitMQ counts as lost."""
_POLL_SECONDS: Final = 0.1


class BusyError(Exception):
    """Another reader uses the queue. Two at once could change the order of its messages."""


@dataclass(frozen=True, slots=True)
class InspectedQueue(Generic[T]):
    """A queue whose messages wait for a person."""

    queue: str
    what: str
    """For people, with the article: `the dead letters`."""
    describe: Callable[[Delivery, Properties], T]
    """Returns what is known of a message. It must not raise, whatever the message is."""


class HeldMessage(NamedTuple, Generic[T]):
    """An unacknowledged message, with what is known of it."""

    summary: T
    message: Delivery
    properties: Properties
    """The message's properties, as far as they could be decoded."""


class QueueReader(Generic[T]):
    """The messages that were ready at the start, oldest first. Those that are not acknowledged stay, in their order."""

    def __init__(self, queue: InspectedQueue[T], total: int, deliveries: Deliveries) -> None:
        """Use `open` instead. Args: the queue; how many messages to read; its deliveries."""
        self.total = total
        """How many were ready at the start."""
        self.seen = 0
        """How many were delivered to this reader."""
        self.acknowledged = 0
        """How many were acknowledged."""
        self.out_of_time = False
        """Whether it ended because of `MAX_HOLD_SECONDS`; then a new reader can continue."""
        self._queue = queue
        self._deliveries = deliveries

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AbstractConnection, queue: InspectedQueue[T], *, most: int | None = None
    ) -> AsyncIterator[Self]:
        """Lock the queue, and consume it, on channels of its own.

        Args:
            connection: an open connection from `open_connection`. While it lasts, no other reader can read the queue.
            queue: to read.
            most: only this many from the head of the queue.

        Raises:
            BusyError: another reader uses it.
            TopologyRefusedError: there is no such queue.
            aiormq.exceptions.AMQPError: the connection is lost.
        """
        total = await _lock_queue(connection, queue)
        consuming = Deliveries.open(connection, queue.queue, prefetch=MAX_HELD, acknowledge_every=None)
        async with consuming as deliveries:
            yield cls(queue, total if most is None else min(total, most), deliveries)

    async def batches(self) -> AsyncGenerator[list[HeldMessage[T]], None]:
        """Up to `BATCH_SIZE` messages at a time, until the last one or until `MAX_HELD` are unacknowledged.

        Raises:
            BrokerUnavailableError: RabbitMQ stops delivering before that, or the connection is lost.
        """
        began = time.monotonic()
        while self.seen < self.total and self.seen - self.acknowledged < MAX_HELD:
            if self.seen and time.monotonic() - began > MAX_HOLD_SECONDS:
                self.out_of_time = True
                return
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    arrived = await self._deliveries.receive(min(BATCH_SIZE, self.total - self.seen))
            except TimeoutError:
                raise BrokerUnavailableError(
                    f"RabbitMQ has stopped sending {self._queue.what}, before the last one; nothing is lost, try again"
                ) from None
            self.seen += len(arrived)
            yield [self._hold(message) for message in arrived]

    def _hold(self, message: Delivery) -> HeldMessage[T]:
        properties = decode_properties(message.properties)
        return HeldMessage(self._queue.describe(message, properties), message, properties)

    async def acknowledge(self, held: HeldMessage[T]) -> None:
        """Acknowledge a message that is safe elsewhere.

        Raises:
            aiormq.exceptions.AMQPError: the connection is lost; the message may still be in the queue.
        """
        await self._deliveries.acknowledge(held.message)
        self.acknowledged += 1


async def _lock_queue(connection: AbstractConnection, place: InspectedQueue[T]) -> int:
    """Be the only reader: take a lock that ends with its connection, then wait until the queue has no consumer.

    Returns how many messages are ready then. RabbitMQ removes a consumer and requeues its messages in one step.
    """
    queue = place.queue
    try:
        async with asyncio.timeout(_LOCK_TIMEOUT_SECONDS):
            while not await exclusive_lock.try_acquire(connection, f"{queue}.lock"):  # noqa: ASYNC110 -- RabbitMQ sends no event for it
                await asyncio.sleep(_POLL_SECONDS)
            while (counts := await queue_counts(connection, queue))[1]:  # noqa: ASYNC110 -- as above
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise BusyError(
            f"another command is reading {place.what}, or a program consumes '{queue}'; try again when it has ended"
        ) from None
    except ChannelNotFoundEntity:
        raise TopologyRefusedError(
            f"there is no queue '{queue}'; look at rabbitmq.prefix, or run `bridge topology apply`"
        ) from None
    return counts[0]
