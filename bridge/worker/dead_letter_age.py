"""When the oldest dead letter came in, as far as this worker knows; the queue is read only where it must be."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp import exclusive_lock
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.broker.queue_counts import queue_counts
from bridge.dead_letters.queue_reader import BusyError, InspectedQueue, QueueReader
from bridge.telemetry import logs
from bridge.worker.waiting_events import received_at, received_at_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.amqp.properties import Properties

log = logs.logger("worker")

_SILENT_SECONDS: Final = 2.0
"""After this time without a message, before the last one, somebody else has taken it."""
_TRUSTED_SECONDS: Final = 600.0
"""The queue is read again after this time, also if the number is as expected: one may have come while another went."""
_MAX_DUTY_CYCLE: Final = 0.05
"""Reading takes at most this share of the time."""


class DeadLetterAge:
    """The time at which the oldest dead letter came in.

    The dead letters that this worker makes are known. Others are noticed by the number of messages: those of other
    workers and of RabbitMQ, and what people have replayed or discarded. Then, and every ten minutes or more, the queue is
    read as `bridge dead list` reads it, which changes nothing in it.
    """

    def __init__(self, queue: str, clock: Callable[[], float] = time.time) -> None:
        """Make one that knows nothing yet. Args: the queue of dead letters; the time in Unix seconds."""
        self._queue = InspectedQueue(queue, "the dead letters", _received_at)
        self._clock = clock
        self.oldest: float | None = None
        """When the oldest one came in, in Unix seconds; None if there is none."""
        self.known = False
        """Whether the queue has been looked at."""
        self._made = 0
        """How many this worker has made."""
        self._oldest_made: float | None = None
        """The oldest of those that it has made since it last began to read."""
        self._others = 0
        """The number of messages in the queue, less those that this worker has made, when it was last read or empty."""
        self._others_before = 0
        """The same at the last look: while messages come and go, the queue is not read."""
        self._read_again_at = 0.0
        self._trusted_until = 0.0

    def made(self, delivery: Delivery) -> None:
        """This worker has made a dead letter of a delivery."""
        at = received_at(delivery.properties)
        at = self._clock() if at is None else at
        self._made += 1
        self.oldest, self._oldest_made = _older(self.oldest, at), _older(self._oldest_made, at)

    async def look(self, connection: AbstractConnection) -> None:
        """Count the dead letters, and read them if their number is not what this worker expects.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """
        made = self._made
        try:
            ready, readers = await queue_counts(connection, self._queue.queue)
        except ChannelNotFoundEntity:
            ready, readers = 0, 0
        if readers or made != self._made:
            return  # the number means nothing now
        others, before = ready - made, self._others_before
        self._others_before = others
        if not ready:
            self._learned(None, others)
            return
        unexpected = others != self._others and others == before
        is_old = not self.known or time.monotonic() >= self._trusted_until
        if (unexpected or is_old) and time.monotonic() >= self._read_again_at:
            await self._read(connection)

    async def _read(self, connection: AbstractConnection) -> None:
        lock = f"{self._queue.queue}.lock"
        if not await exclusive_lock.try_acquire(connection, lock):
            return  # somebody reads it: the next look is soon
        began, made = time.monotonic(), self._made
        self._oldest_made = None
        try:
            oldest, count = await self._oldest_in_queue(connection)
        except (BusyError, TopologyRefusedError, BrokerUnavailableError, TimeoutError) as error:
            # Somebody has taken one out meanwhile: the next look is soon.
            log.debug("the dead letters cannot be read now", action="worker.dead_not_read", error=str(error))
            return
        finally:
            await exclusive_lock.release(connection, lock)
        ended = time.monotonic()
        self._read_again_at = ended + (ended - began) / _MAX_DUTY_CYCLE
        # Every worker does this, and meanwhile nobody else can read: where it takes long, it is done seldom.
        self._trusted_until = ended + max(_TRUSTED_SECONDS, 10 * (self._read_again_at - ended))
        self._learned(_older(oldest, self._oldest_made), count - made)

    async def _oldest_in_queue(self, connection: AbstractConnection) -> tuple[float | None, int]:
        """When the oldest in the queue came in, and how many there are."""
        oldest: float | None = None
        async with (
            QueueReader.open(connection, self._queue) as reader,
            aclosing(reader.batches()) as batches,
        ):
            with suppress(StopAsyncIteration):
                while True:
                    async with asyncio.timeout(_SILENT_SECONDS):
                        batch = await anext(batches)
                    for held in batch:
                        oldest = _older(oldest, held.summary)
            return oldest, reader.total

    def _learned(self, oldest: float | None, others: int) -> None:
        self.oldest, self._others, self.known = oldest, others, True


def _received_at(message: Delivery, properties: Properties) -> float | None:
    del message
    return received_at_of(properties)


def _older(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)
