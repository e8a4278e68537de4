"""Everything that a RabbitMQ node is given, from its firehose: a consumer in a thread beside the tests."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aio_pika
from aiormq.exceptions import AMQPError

from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.queue_counts import queue_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery

ERLANG_FLAGS: Final = "-rabbit trace_vhosts [<<47>>]"
"""The virtual host `/` is traced from the start of a node. `rabbitmqctl trace_on` does the same, until the node's next start."""
EXCHANGE: Final = "amq.rabbitmq.trace"
PUBLISHED: Final = "publish.#"

_PREFETCH: Final = 2000
_ACKNOWLEDGE_EVERY: Final = 500
_PATIENCE_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.02
_LOST: Final = (AMQPError, BrokerUnavailableError, OSError)


class Firehose:
    """Consumes until it is closed. Once it is open, nothing that is published later is missed, while the node runs."""

    def __init__(self, url: str, take: Callable[[Delivery], None], used: Callable[[float], None]) -> None:
        """Nothing is connected yet.

        Args:
            url: of the node, with the virtual host.
            take: called with each message, in the thread.
            used: called at the end with the seconds of CPU that the thread has used.
        """
        self._url = url
        self._take = take
        self._used = used
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="firehose", daemon=True)

    def open(self) -> None:
        """Returns when everything that is published from now on is seen."""
        self._thread.start()
        assert self._opened.wait(_PATIENCE_SECONDS), f"the firehose of {self._url} cannot be consumed"

    def close(self) -> None:
        """Returns when all that was published has been seen; or at once, if the node is gone."""
        self._closing.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._consume())
        self._used(time.thread_time())

    async def _consume(self) -> None:
        with suppress(*_LOST):  # the node has ended: there is no more to see
            async with await open_connection(
                self._url, name="the tests' firehose", connect_timeout=_PATIENCE_SECONDS
            ) as connection:
                queue = await _bound(connection)
                reading = Deliveries.open(
                    connection, queue, prefetch=_PREFETCH, acknowledge_every=_ACKNOWLEDGE_EVERY
                )
                async with reading as deliveries:
                    self._opened.set()
                    await self._read(connection, queue, deliveries)

    async def _read(self, connection: AbstractConnection, queue: str, deliveries: Deliveries) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._closing.wait), name="closing")
        receiving = asyncio.create_task(deliveries.receive(), name="receive")
        while not closing.done():
            await asyncio.wait({closing, receiving}, return_when=asyncio.FIRST_COMPLETED)
            receiving = self._taken(receiving, deliveries)
        while True:
            ready, _ = await queue_counts(connection, queue)
            await asyncio.wait({receiving}, timeout=_POLL_SECONDS)
            if not ready and not receiving.done():
                break
            receiving = self._taken(receiving, deliveries)
        receiving.cancel()

    def _taken(
        self, receiving: asyncio.Task[list[Delivery]], deliveries: Deliveries
    ) -> asyncio.Task[list[Delivery]]:
        """What has come is taken; the next is waited for."""
        if not receiving.done():
            return receiving
        for traced in receiving.result():
            self._take(traced)
        return asyncio.create_task(deliveries.receive(), name="receive")


async def _bound(connection: AbstractConnection) -> str:
    channel = await connection.channel()
    assert isinstance(channel, aio_pika.abc.AbstractChannel)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(EXCHANGE, PUBLISHED)
    return queue.name
