"""Empties a queue into an exchange: a message is acknowledged when RabbitMQ has confirmed its copy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity

from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.text import collapse

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.forwarding import Forwarder

_PREFETCH: Final = 1000
_BATCH: Final = 200
_PRIORITY: Final = 1000
"""Of the consumer. As long as it has room for more, other consumers get nothing: rabbitmq.com/docs/consumer-priority."""


class QueueDrain:
    """Consumes one queue before all other consumers, until it is stopped, or the queue is deleted.

    What is in the queue when it is deleted was sent to this consumer before (RabbitMQ applies the steps of a queue one after
    the other), and is forwarded, too. So nothing is lost that was confirmed between the last look and the deletion.
    """

    def __init__(
        self, connection: AbstractConnection, queue: str, forwarder: Forwarder, exchange: str
    ) -> None:
        """Make a drain that does nothing yet.

        Args:
            connection: an open connection of `open_connection`.
            queue: to empty.
            forwarder: publishes the messages.
            exchange: where to.
        """
        self._connection = connection
        self._queue = queue
        self._forwarder = forwarder
        self._exchange = exchange
        self._stopping = asyncio.Event()
        self._consuming = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.moved = 0
        """How many messages were moved."""

    async def start(self) -> None:
        """Begin to consume.

        Raises:
            TopologyRefusedError: the queue cannot be consumed; the message says why.
            BrokerUnavailableError: the connection is lost.
        """
        self._task = asyncio.create_task(self._run(), name=f"drain {self._queue}")
        began = asyncio.create_task(self._consuming.wait(), name=f"drain {self._queue} began")
        try:
            await asyncio.wait([self._task, began], return_when=asyncio.FIRST_COMPLETED)
        finally:
            began.cancel()
        self.check()

    def check(self) -> None:
        """Raises as `start`: it has ended before it should."""
        if self._task is not None and self._task.done() and not self._stopping.is_set():
            self._task.result()
            raise BrokerUnavailableError(f"the consumer of queue '{self._queue}' has ended")

    async def stop(self) -> None:
        """Finish what was delivered, and consume no more."""
        self._stopping.set()
        if self._task is not None and not self._task.done():
            await self._finish(self._task)

    async def ended_with_queue(self, seconds: float) -> None:
        """The queue was deleted: wait until all that came from it is forwarded.

        Args:
            seconds: how long RabbitMQ may take to cancel the consumer. 3.10 does not always tell.
        """
        task = self._task
        if task is None:
            return
        await asyncio.wait([task], timeout=seconds)
        self._stopping.set()
        if not task.done():
            await self._finish(task)
        elif (error := task.exception()) is not None and not isinstance(error, _ConsumerCancelledError):
            raise error

    async def _finish(self, task: asyncio.Task[None]) -> None:
        with suppress(_ConsumerCancelledError):
            await task

    def cancel(self) -> None:
        """End at once. What is not acknowledged is requeued."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        consuming = Deliveries.open(
            self._connection,
            self._queue,
            prefetch=_PREFETCH,
            acknowledge_every=None,
            arguments={"x-priority": _PRIORITY},
        )
        try:
            async with consuming as deliveries:
                self._consuming.set()
                await self._forward_all(deliveries)
        except (ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity) as refusal:
            raise TopologyRefusedError(
                f"queue '{self._queue}' cannot be emptied: {collapse(str(refusal))}; stop who consumes it alone, or use a "
                "user who may read it"
            ) from None

    async def _forward_all(self, deliveries: Deliveries) -> None:
        while True:
            receiving = asyncio.ensure_future(deliveries.receive(_BATCH))
            stopping: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait([receiving, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                if not receiving.done():
                    receiving.cancel()
            if receiving.cancelled() or not receiving.done():
                return
            try:
                batch = receiving.result()
            except BrokerUnavailableError as loss:
                raise _ConsumerCancelledError(str(loss)) from None
            await self._forwarder.forward(batch, self._exchange)
            for one in batch:
                await deliveries.acknowledge(one)
            self.moved += len(batch)


class _ConsumerCancelledError(BrokerUnavailableError):
    """RabbitMQ delivers no more: the queue is gone, or the channel."""
