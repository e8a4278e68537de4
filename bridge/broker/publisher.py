"""The confirmed publisher: many messages in flight, one future for each, resolved by RabbitMQ's confirm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.broker.connection import LinkState
from bridge.broker.frames import Framing, Message
from bridge.broker.internals import open_confirm_channel
from bridge.broker.session import BrokerUnavailableError, channel_gone, gone, together
from bridge.telemetry import instruments

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from pamqp import commands as spec
    from prometheus_client import Gauge

    from bridge.broker.connection import Link
    from bridge.broker.internals import ConfirmChannel
    from bridge.telemetry.metrics import Metrics

UNRESPONSIVE_SECONDS: Final = 5.0
"""Without any confirm: a connection that is open and dead. A quorum queue under load takes below 1 s."""

MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
"""The window in bytes of bodies: what a broker that stops reading can cost in memory. 10,000 usual events are 1.5 MB."""


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


CONFIRMED, NACKED, RETURNED, LOST = "confirmed", "nacked", "returned", "lost"
"""What can become of a publish, for the metrics."""

Outcome = Callable[[PublishError | None], None]
"""Told once what became of a message: nothing when RabbitMQ has confirmed it. It must not raise."""


class _InFlight(NamedTuple):
    outcome: Outcome
    message: Message
    sent_at: float


class Publisher:
    """Publishes with `mandatory` and confirms, on whichever connection its session runs on."""

    def __init__(self, link: Link, *, max_in_flight: int, patience: float, metrics: Metrics) -> None:
        """Make a publisher that cannot publish until its first session.

        Args:
            link: the connection that the sessions run on.
            max_in_flight: the window: messages that may wait for their confirm.
            patience: seconds without a confirm after which RabbitMQ counts as stalled.
            metrics: counts publishes by outcome, and how long they and their events take.
        """
        self._link = link
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._outcomes = {
            outcome: metrics.tally(metrics.publishes.labels(outcome))
            for outcome in (CONFIRMED, NACKED, RETURNED, LOST)
        }
        self._waits = metrics.spread(metrics.confirm_seconds, instruments.FAST)
        self._ages = metrics.ages(instruments.CONFIRMED)
        self._loop = asyncio.get_running_loop()
        self._channel: ConfirmChannel | None = None
        self._framing = Framing(0, 0)
        self._last_tag = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._bytes_in_flight = 0
        self._returned: dict[_Identity, list[str]] = {}
        self._unsent: list[bytes] = []
        self._unroutable = asyncio.Event()
        self._window_moved = asyncio.Event()
        metrics.window_messages.set(max_in_flight)
        metrics.window_bytes.set(MAX_BYTES_IN_FLIGHT)
        metrics.before_reading(partial(self._measure, metrics.in_flight_messages, metrics.in_flight_bytes))

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
        confirm: asyncio.Future[None] = self._loop.create_future()
        confirm.add_done_callback(_retrieve)
        self.send(message, partial(_settle, confirm))
        return confirm

    def send(self, message: Message, outcome: Outcome) -> None:
        """Send a message, and have its outcome told; for whoever has no time for a future.

        What is sent in one turn of the loop goes out in one write.

        Raises:
            NotConnectedError: nothing was sent.
            WindowFullError: nothing was sent.
        """
        if self._channel is None:
            raise NotConnectedError("there is no connection to RabbitMQ")
        if len(self._in_flight) >= self._max_in_flight or self._bytes_in_flight >= MAX_BYTES_IN_FLIGHT:
            raise WindowFullError(
                f"{len(self._in_flight)} messages of {self._bytes_in_flight} bytes wait for RabbitMQ's confirm"
            )
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent += self._framing.frames(message)
        self._last_tag += 1
        self._in_flight[self._last_tag] = _InFlight(outcome, message, self._loop.time())
        self._bytes_in_flight += len(message.body)

    async def session(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it, or the channel, is gone.

        Raises:
            BrokerUnavailableError: when it is gone, or when no confirm comes for `UNRESPONSIVE_SECONDS`.
        """
        async with asyncio.timeout(UNRESPONSIVE_SECONDS):
            channel = await open_confirm_channel(connection, self)
        self._framing = Framing(channel.number, channel.largest_body)
        self._last_tag = 0
        self._channel = channel
        self._link.opened()
        try:
            await together(
                confirms=self._confirms_come(),
                returns=self._returned_one(),
                channel=channel_gone(channel.channel),
                connection=gone(connection),
            )
        finally:
            self._channel = None
            channel.wire.hand_back(channel.number)  # the tags of the next session begin anew
            self._abandon()

    async def settle(self) -> None:
        """Wait until nothing is in flight any more."""
        while self._in_flight:
            self._window_moved.clear()
            await self._window_moved.wait()

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        confirmed = 0
        now, today = self._loop.time(), time.time()
        for outcome, message, sent_at in self._taken(delivery_tag, multiple=multiple):
            if self._returned and (reason := self._take_return(message)) is not None:
                self._fail(outcome, RETURNED, ReturnedError(f"RabbitMQ returned the message: {reason}"))
                continue
            confirmed += 1
            self._waits.observe(now - sent_at)
            if message.happened_at is not None:
                self._ages.observe(today - message.happened_at)
            outcome(None)
        self._outcomes[CONFIRMED].count += confirmed

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        for outcome, _, _ in self._taken(delivery_tag, multiple=multiple):
            self._fail(outcome, NACKED, NackedError("RabbitMQ refused the message (basic.nack)"))

    def returned(self, message: spec.Basic.Return, message_id: str) -> None:
        # The return comes just before its ack. Two in flight with one identity are one event on one way:
        # whichever of them takes the return, the other's confirm says truly that the event is in a queue.
        identity = _Identity(message.exchange, message.routing_key or "", message_id)
        self._returned.setdefault(identity, []).append(message.reply_text or "")
        self._unroutable.set()

    def _write(self) -> None:
        frames = b"".join(self._unsent)
        self._unsent.clear()
        if self._channel is not None:
            self._channel.wire.write(frames)

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
        channel, self._channel = self._channel, None  # live traffic would fill the window again and again
        if channel is not None:
            channel.wire.write(b"".join(self._unsent))
            self._unsent.clear()
        await self.settle()
        raise BrokerUnavailableError("RabbitMQ returned a message: an exchange has lost its queues")

    def _oldest_wait(self) -> float:
        for oldest in self._in_flight.values():
            return self._loop.time() - oldest.sent_at
        return 0.0

    def _taken(self, delivery_tag: int, *, multiple: bool) -> list[_InFlight]:
        """Take what this confirm speaks of out of the window, which is in the order of the tags."""
        self._window_moved.set()
        in_flight = self._in_flight
        if not multiple:
            one = in_flight.pop(delivery_tag, None)
            taken = [] if one is None else [one]
        else:
            taken = [in_flight.pop(tag) for tag in list(takewhile(delivery_tag.__ge__, in_flight))]
        for _, message, _ in taken:
            self._bytes_in_flight -= len(message.body)
        return taken

    def _take_return(self, message: Message) -> str | None:
        identity = _Identity(message.exchange, message.routing_key, message.message_id)
        reasons = self._returned.get(identity)
        if reasons is None:
            return None
        reason = reasons.pop()
        if not reasons:
            del self._returned[identity]
        return reason

    def _abandon(self) -> None:
        self._unsent.clear()
        self._returned.clear()
        self._unroutable.clear()
        self._window_moved.set()
        abandoned, self._in_flight = self._in_flight, {}
        self._bytes_in_flight = 0
        for outcome, _, _ in abandoned.values():
            self._fail(outcome, LOST, LostError("the connection to RabbitMQ was lost before the confirm"))

    def _fail(self, outcome: Outcome, label: str, error: PublishError) -> None:
        self._outcomes[label].count += 1
        outcome(error)

    def _measure(self, messages: Gauge, in_bytes: Gauge) -> None:
        messages.set(len(self._in_flight))
        in_bytes.set(self._bytes_in_flight)


class _Identity(NamedTuple):
    """By what a return is told from a confirm."""

    exchange: str
    routing_key: str
    message_id: str


def _settle(confirm: asyncio.Future[None], error: PublishError | None) -> None:
    if confirm.done():
        return
    if error is None:
        confirm.set_result(None)
    else:
        confirm.set_exception(error)


def _retrieve(confirm: asyncio.Future[None]) -> None:
    """Whoever waited may have given up; asyncio would log the error that nobody took."""
    if not confirm.cancelled():
        confirm.exception()
