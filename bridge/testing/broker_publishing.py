"""Publishes messages to a queue or exchange of a broker, for tests that have one. Blocking, so that any test can use it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aio_pika
from aiormq.exceptions import AMQPError

from bridge.amqp.properties import decode_properties
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from aio_pika.abc import AbstractConnection

    from bridge.testing.message import BridgeMessage

Result = TypeVar("Result")

_TIMEOUT_SECONDS: Final = 30.0


class BrokerPublishingError(RuntimeError):
    """The broker has not taken a message. The message of this error says which one, where it was to go, and why."""


class BrokerPublisher:
    """A connection on an event loop in a thread of its own, so that tests may be async or not. Use it as a context."""

    def __init__(self, url: str) -> None:
        """Nothing is connected yet. Args: the broker's URL, `amqp://…`."""
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bridge.testing", daemon=True)
        self._connection: AbstractConnection | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(
        self, messages: Iterable[BridgeMessage], *, queue: str | None = None, exchange: str | None = None
    ) -> None:
        """Publish; returns when the broker has confirmed all of them.

        Args:
            messages: in this order.
            queue: it alone gets them, by the default exchange: there the routing key is the queue's name.
            exchange: which routes them by the keys that the bridge gives them.

        Raises:
            TypeError: neither a queue nor an exchange is given, or both.
            BrokerPublishingError: the broker does not answer, or it refuses a message, or no queue gets it.
        """
        if (queue is None) == (exchange is None):
            raise TypeError("publish to a queue or to an exchange: publish_event(message, queue='crm')")
        self._run(self._publish(list(messages), queue=queue, exchange=exchange))

    async def _publish(
        self, messages: list[BridgeMessage], *, queue: str | None, exchange: str | None
    ) -> None:
        place = f"queue '{queue}'" if queue is not None else f"exchange '{exchange}'"
        try:
            if self._connection is None or self._connection.is_closed:
                self._connection = await aio_pika.connect(self._url, timeout=_TIMEOUT_SECONDS)
        except (AMQPError, OSError) as error:
            raise BrokerPublishingError(
                f"the broker for tests does not answer: {error_line(error)}"
            ) from error
        for_one_use = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        async with for_one_use as channel:
            underlay = await channel.get_underlay_channel()
            for message in messages:
                try:
                    await underlay.basic_publish(
                        message.body,
                        exchange=exchange or "",
                        routing_key=message.routing_key if queue is None else queue,
                        properties=decode_properties(message.published.properties).to_pamqp(),
                        mandatory=True,
                        timeout=_TIMEOUT_SECONDS,
                    )
                except (AMQPError, OSError) as error:
                    raise BrokerPublishingError(
                        f"{place} has not got {message!r}: {error_line(error)}; declare the queue, and bind it, first"
                    ) from error

    def _run(self, doing: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()
