"""The confirmed publisher: many messages in flight, one future for each, resolved by RabbitMQ's confirm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aiormq.abc import ChannelFrame
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from bridge.broker.connection import channel_gone, gone, together
from bridge.broker.internals import ConfirmChannel, open_confirm_channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection

    from bridge.telemetry.metrics import Metrics


class PublishError(Exception):
    """A message is not known to be in RabbitMQ. Its message says why."""


class NotConnectedError(PublishError):
    """There is no open channel; nothing was sent."""


class WindowFullError(PublishError):
    """As many messages as allowed wait for their confirm; nothing was sent."""


class NackedError(PublishError):
    """RabbitMQ refused to keep the message."""


class ReturnedError(PublishError):
    """No queue is bound for the message, and no alternate exchange took it."""


class LostError(PublishError):
    """The channel was lost before the confirm came: the message may have arrived or not."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be published, and where."""

    exchange: str
    routing_key: str
    properties: spec.Basic.Properties
    body: bytes


class _InFlight(NamedTuple):
    confirm: asyncio.Future[None]
    message_id: str


class Publisher:
    """Publishes with `mandatory` and confirms, on whichever connection its session runs on."""

    def __init__(self, *, max_in_flight: int, metrics: Metrics) -> None:
        self._max_in_flight = max_in_flight
        self._metrics = metrics
        self._channel: ConfirmChannel | None = None
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: dict[str, list[str]] = {}
        self._unsent: list[bytes] = []
        self._something_to_send = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many messages wait for their confirm."""
        return len(self._in_flight)

    def publish(self, message: Message) -> asyncio.Future[None]:
        """Send a message. The future is done when RabbitMQ has confirmed it, and fails with a `PublishError`.

        It may be given up by whoever waits; the publish goes on, and its outcome is counted.

        Raises:
            NotConnectedError: nothing was sent.
            WindowFullError: nothing was sent.
        """
        channel = self._channel
        if channel is None:
            raise NotConnectedError("there is no connection to RabbitMQ")
        if len(self._in_flight) >= self._max_in_flight:
            raise WindowFullError(f"{self._max_in_flight} messages wait for RabbitMQ's confirm")
        frames = _frames(message, channel)
        channel.delivery_tag += 1
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirm.add_done_callback(self._count)
        self._in_flight[channel.delivery_tag] = _InFlight(confirm, message.properties.message_id or "")
        self._unsent.append(frames)
        self._something_to_send.set()
        return confirm

    async def session(self, connection: AbstractConnection, *, opened: Callable[[], None]) -> None:
        """Publish on this connection until it, or the channel, is gone.

        Args:
            connection: an open connection.
            opened: called when messages can be published.

        Raises:
            BrokerUnavailableError: when it is gone.
        """
        channel = await open_confirm_channel(connection, self)
        self._channel = channel
        opened()
        try:
            await together(
                send=self._send(channel),
                channel=channel_gone(channel),
                connection=gone(connection),
            )
        finally:
            self._channel = None
            self._abandon()

    async def settle(self) -> None:
        """Wait until nothing is in flight any more."""
        while self._in_flight:
            await asyncio.wait([in_flight.confirm for in_flight in self._in_flight.values()])

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        for confirm, message_id in self._confirmed(delivery_tag, multiple=multiple):
            if confirm.done():
                continue
            if self._returned and (reason := self._take_return(message_id)) is not None:
                confirm.set_exception(ReturnedError(f"RabbitMQ returned the message: {reason}"))
            else:
                confirm.set_result(None)

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        for confirm, _ in self._confirmed(delivery_tag, multiple=multiple):
            if not confirm.done():
                confirm.set_exception(NackedError("RabbitMQ refused the message (basic.nack)"))

    def returned(self, message_id: str, reason: str) -> None:
        # The return comes just before its ack. Two in flight with one id are one event with one content:
        # whichever of them takes the return, the other's confirm says truly that the event is in a queue.
        self._returned.setdefault(message_id, []).append(reason)

    async def _send(self, channel: ConfirmChannel) -> None:
        """All messages of one turn of the loop go out in one write."""
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            payload = b"".join(self._unsent)
            self._unsent.clear()
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))

    def _confirmed(self, delivery_tag: int, *, multiple: bool) -> list[_InFlight]:
        """Take what this confirm speaks of out of the window, which is in the order of the tags."""
        if not multiple:
            one = self._in_flight.pop(delivery_tag, None)
            return [] if one is None else [one]
        confirmed = []
        while self._in_flight:
            oldest = next(iter(self._in_flight))
            if oldest > delivery_tag:
                break
            confirmed.append(self._in_flight.pop(oldest))
        return confirmed

    def _take_return(self, message_id: str) -> str | None:
        reasons = self._returned.get(message_id)
        if not reasons:
            return None
        reason = reasons.pop()
        if not reasons:
            del self._returned[message_id]
        return reason

    def _abandon(self) -> None:
        self._unsent.clear()
        self._something_to_send.clear()
        self._returned.clear()
        abandoned, self._in_flight = self._in_flight, {}
        for confirm, _ in abandoned.values():
            if not confirm.done():
                confirm.set_exception(LostError("the connection to RabbitMQ was lost before the confirm"))

    def _count(self, confirm: asyncio.Future[None]) -> None:
        error = None if confirm.cancelled() else confirm.exception()
        outcome = "confirmed" if error is None else type(error).__name__.removesuffix("Error").lower()
        self._metrics.publishes.labels(outcome).inc()


def _frames(message: Message, channel: ConfirmChannel) -> bytes:
    body, size = message.body, channel.max_content_size
    parts = [ContentBody(body[start : start + size]) for start in range(0, len(body), size)]
    return ChannelFrame.marshall(
        channel.number,
        [
            spec.Basic.Publish(exchange=message.exchange, routing_key=message.routing_key, mandatory=True),
            ContentHeader(properties=message.properties, body_size=len(body)),
            *parts,
        ],
    ).payload
