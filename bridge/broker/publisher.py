"""The confirmed publisher: many messages in flight, one future for each, resolved by RabbitMQ's confirm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from aiormq.abc import ChannelFrame
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from bridge.broker.connection import LinkState
from bridge.broker.internals import ConfirmChannel, open_confirm_channel
from bridge.broker.session import BrokerUnavailableError, channel_gone, gone, together

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.connection import Link
    from bridge.telemetry.metrics import Metrics

UNRESPONSIVE_SECONDS: Final = 5.0
"""Without any confirm: a connection that is open and dead. A quorum queue under load takes below 1 s."""


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
    mandatory: bool = True
    """Whether it must reach a queue. Without, a message that nobody has bound a queue for counts as published."""


class _InFlight(NamedTuple):
    confirm: asyncio.Future[None]
    message_id: str
    sent_at: float


class Publisher:
    """Publishes with `mandatory` and confirms, on whichever connection its session runs on."""

    def __init__(self, link: Link, *, max_in_flight: int, patience: float, metrics: Metrics) -> None:
        """Make a publisher that cannot publish until its first session.

        Args:
            link: the connection that the sessions run on.
            max_in_flight: the window: messages that may wait for their confirm.
            patience: seconds without a confirm after which RabbitMQ counts as stalled.
            metrics: counts publishes by outcome.
        """
        self._link = link
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._channel: ConfirmChannel | None = None
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: dict[str, list[str]] = {}
        self._unsent: list[bytes] = []
        self._something_to_send = asyncio.Event()
        self._unroutable = asyncio.Event()
        self._window_moved = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many messages wait for their confirm."""
        return len(self._in_flight)

    @property
    def usable(self) -> bool:
        """Whether a message that is sent now can expect its confirm soon.

        Not while the connection is away, nor while RabbitMQ blocks it for an alarm, nor while the oldest message
        in flight waits for longer than `patience`.
        """
        return (
            self._channel is not None
            and self._link.state is LinkState.UP
            and self._oldest_wait() < self._patience
        )

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
        confirm: asyncio.Future[None] = self._loop.create_future()
        confirm.add_done_callback(_retrieve)
        self._in_flight[channel.delivery_tag] = _InFlight(
            confirm, message.properties.message_id or "", self._loop.time()
        )
        self._unsent.append(frames)
        self._something_to_send.set()
        return confirm

    async def session(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it, or the channel, is gone.

        Raises:
            BrokerUnavailableError: when it is gone, or when no confirm comes for `UNRESPONSIVE_SECONDS`.
        """
        async with asyncio.timeout(UNRESPONSIVE_SECONDS):
            channel = await open_confirm_channel(connection, self)
        self._channel = channel
        self._link.opened()
        try:
            await together(
                send=self._send(channel),
                confirms=self._confirms_come(),
                returns=self._returned_one(),
                channel=channel_gone(channel),
                connection=gone(connection),
            )
        finally:
            self._channel = None
            self._abandon()

    async def settle(self) -> None:
        """Wait until nothing is in flight any more."""
        while self._in_flight:
            self._window_moved.clear()
            await self._window_moved.wait()

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        for confirm, message_id, _ in self._confirmed(delivery_tag, multiple=multiple):
            if self._returned and (reason := self._take_return(message_id)) is not None:
                self._fail(confirm, "returned", ReturnedError(f"RabbitMQ returned the message: {reason}"))
                continue
            self._metrics.publishes.labels("confirmed").inc()
            if not confirm.done():
                confirm.set_result(None)

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        for confirm, _, _ in self._confirmed(delivery_tag, multiple=multiple):
            self._fail(confirm, "nacked", NackedError("RabbitMQ refused the message (basic.nack)"))

    def returned(self, message_id: str, reason: str) -> None:
        # The return comes just before its ack. Two in flight with one id are one event with one content:
        # whichever of them takes the return, the other's confirm says truly that the event is in a queue.
        self._returned.setdefault(message_id, []).append(reason)
        self._unroutable.set()

    async def _send(self, channel: ConfirmChannel) -> None:
        """All messages of one turn of the loop go out in one write."""
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            payload = b"".join(self._unsent)
            self._unsent.clear()
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))

    async def _confirms_come(self) -> None:
        """Notice a connection that is open and dead: a cable, a firewall, a broker that hangs.

        Heartbeats notice it too, but after three of them are missed. An alarm is not that: RabbitMQ tells of it.
        """
        unblocked_at = self._loop.time()
        while True:
            await asyncio.sleep(UNRESPONSIVE_SECONDS / 5)
            if self._link.state is not LinkState.UP:
                unblocked_at = self._loop.time()
            waited = min(self._oldest_wait(), self._loop.time() - unblocked_at)
            if waited > UNRESPONSIVE_SECONDS:
                raise BrokerUnavailableError(f"no confirm came for {UNRESPONSIVE_SECONDS:g} s")

    async def _returned_one(self) -> None:
        """A return means that the topology is damaged. The next session mends it before it publishes."""
        await self._unroutable.wait()
        self._channel = None  # live traffic would fill the window again and again
        await self.settle()
        raise BrokerUnavailableError("RabbitMQ returned a message: an exchange has lost its queues")

    def _oldest_wait(self) -> float:
        for oldest in self._in_flight.values():
            return self._loop.time() - oldest.sent_at
        return 0.0

    def _confirmed(self, delivery_tag: int, *, multiple: bool) -> list[_InFlight]:
        """Take what this confirm speaks of out of the window, which is in the order of the tags."""
        self._window_moved.set()
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
        self._unroutable.clear()
        self._window_moved.set()
        abandoned, self._in_flight = self._in_flight, {}
        for confirm, _, _ in abandoned.values():
            self._fail(confirm, "lost", LostError("the connection to RabbitMQ was lost before the confirm"))

    def _fail(self, confirm: asyncio.Future[None], outcome: str, error: PublishError) -> None:
        self._metrics.publishes.labels(outcome).inc()
        if not confirm.done():
            confirm.set_exception(error)


def _retrieve(confirm: asyncio.Future[None]) -> None:
    """Whoever waited may have given up; asyncio would log the error that nobody took."""
    if not confirm.cancelled():
        confirm.exception()


def _frames(message: Message, channel: ConfirmChannel) -> bytes:
    body, size = message.body, channel.max_content_size
    parts = [ContentBody(body[start : start + size]) for start in range(0, len(body), size)]
    return ChannelFrame.marshall(
        channel.number,
        [
            spec.Basic.Publish(
                exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
            ),
            ContentHeader(properties=message.properties, body_size=len(body)),
            *parts,
        ],
    ).payload
