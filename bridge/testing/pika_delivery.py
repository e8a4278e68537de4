"""Hands a message over as pika does: its own classes, on a channel that only keeps what it is told."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bridge.testing.settlements import CONSUMER_TAG, DELIVERY_COUNT_HEADER, Settlements

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bridge.testing.message import BridgeMessage


class PikaDelivery(NamedTuple):
    """The arguments of a consumer's callback, in pika's order."""

    channel: Channel
    method: Any
    """`pika.spec.Basic.Deliver`."""
    properties: Any
    """`pika.BasicProperties`."""
    body: bytes


class PikaMessage(NamedTuple):
    """What a consumer has published on its channel."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Any


class Channel:
    """What a callback uses of a `BlockingChannel`. What it publishes is kept in `published`, and goes nowhere."""

    is_open = True

    def __init__(self, settlements: Settlements, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Args: told what the consumer says of deliveries; on which event loop other threads' callbacks run."""
        self.settlements = settlements
        self.published: list[PikaMessage] = []
        self._loop = loop

    @property
    def connection(self) -> Channel:
        """For `channel.connection.add_callback_threadsafe`, with which another thread acknowledges."""
        return self

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        if self._loop is None:
            callback()
        else:
            self._loop.call_soon_threadsafe(callback)

    # pika's signatures.
    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:  # noqa: FBT001, FBT002 -- as pika has it
        self.settlements.settle(delivery_tag, "acknowledged", multiple=multiple)

    def basic_nack(
        self,
        delivery_tag: int = 0,
        multiple: bool = False,  # noqa: FBT001, FBT002 -- as pika has it
        requeue: bool = True,  # noqa: FBT001, FBT002 -- as pika has it
    ) -> None:
        self.settlements.settle(delivery_tag, "requeued" if requeue else "rejected", multiple=multiple)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:  # noqa: FBT001, FBT002 -- as pika has it
        self.settlements.settle(delivery_tag, "requeued" if requeue else "rejected")

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Any = None,
        mandatory: bool = False,  # noqa: FBT001, FBT002 -- as pika has it
    ) -> None:
        del mandatory
        self.published.append(PikaMessage(exchange, routing_key, body, properties))


def incoming(
    message: BridgeMessage,
    *,
    redelivered: bool = False,
    tag: int = 1,
    returns: int = 0,
    channel: Channel | None = None,
) -> PikaDelivery:
    """The message as a consumer's callback gets it.

    Args:
        message: to hand over.
        redelivered: the flag of the delivery.
        tag: the delivery tag.
        returns: how often the queue has taken it back.
        channel: told what the consumer says of it.

    Raises:
        ModuleNotFoundError: pika is not installed.
    """
    if channel is None:
        channel = Channel(Settlements())
        channel.settlements.delivered(tag, lambda _: None)
    spec = import_module("pika.spec")  # only who tests a consumer that uses pika has it
    properties = spec.BasicProperties().decode(message.published.properties)
    if returns:
        properties.headers = {**(properties.headers or {}), DELIVERY_COUNT_HEADER: returns}
    method = spec.Basic.Deliver(
        consumer_tag=CONSUMER_TAG,
        delivery_tag=tag,
        redelivered=redelivered,
        exchange=message.exchange,
        routing_key=message.routing_key,
    )
    return PikaDelivery(channel, method, properties, message.body)
