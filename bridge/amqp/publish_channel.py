"""One channel in confirm mode: what is in flight on it, and what RabbitMQ says of each message."""

from __future__ import annotations

import asyncio
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.amqp.frames import Framing, Message
from bridge.amqp.publish_errors import (
    CONFIRMED,
    LOST,
    NACKED,
    RETURNED,
    ChannelClosedError,
    LostError,
    NackedError,
    Outcome,
    PublishError,
    ReturnedError,
    WindowFullError,
)
from bridge.telemetry import instruments

if TYPE_CHECKING:
    from collections.abc import Callable

    from pamqp import commands as spec

    from bridge.amqp.aiormq_internals import ConfirmChannel
    from bridge.telemetry.metrics import Metrics

MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
"""The window in bytes of bodies: what a broker that stops reading can cost in memory. 10,000 usual events are 1.5 MB."""

_MOST_KEYS: Final = 1000
"""Whose nacks are watched at once. Routing keys come from the provider, who may think of any number of them."""


class Counts:
    """What the channels of one publisher count together."""

    def __init__(self, metrics: Metrics) -> None:
        self.outcomes = {
            outcome: metrics.tally(metrics.publishes.labels(outcome))
            for outcome in (CONFIRMED, NACKED, RETURNED, LOST)
        }
        self.waits = metrics.spread(metrics.confirm_seconds, instruments.FAST)
        self.ages = metrics.ages(instruments.CONFIRMED)


class _InFlight(NamedTuple):
    outcome: Outcome
    message: Message
    sent_at: float


class PublishChannel:
    """Sends messages, and calls the outcome of each when RabbitMQ has spoken. It listens from `opened` to `end`."""

    def __init__(
        self, counts: Counts, *, max_in_flight: int, noticed: Callable[[PublishChannel], None]
    ) -> None:
        """Make a channel that is not open yet.

        Args:
            counts: where outcomes are counted.
            max_in_flight: messages that may wait for their confirm.
            noticed: called when the channel is closed, or a message was returned: somebody has to act.
        """
        self._counts = counts
        self._max_in_flight = max_in_flight
        self._noticed = noticed
        self._loop = asyncio.get_running_loop()
        self._channel: ConfirmChannel | None = None
        self._framing = Framing(0, 0)
        self._last_tag = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: dict[_Identity, list[str]] = {}
        self._unsent: list[bytes] = []
        self._moved = asyncio.Event()
        self.bytes_in_flight = 0
        self.confirmed = 0
        """How many it has confirmed."""
        self.nacking: dict[str, float] = {}
        """Routing key -> since when all that went under it was nacked."""
        self.unroutable = False
        """Whether a message was returned: an exchange has lost its queues."""
        self.closed_by: ChannelClosedError | None = None
        """What RabbitMQ said when it closed the channel."""

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def oldest_wait(self) -> float:
        """Seconds."""
        for oldest in self._in_flight.values():
            return self._loop.time() - oldest.sent_at
        return 0.0

    def opened(self, channel: ConfirmChannel) -> None:
        """It is open, and its confirms come here."""
        self._channel = channel
        self._framing = Framing(channel.number, channel.largest_body)

    def send(self, message: Message, outcome: Outcome) -> None:
        """Send a message. What is sent in one turn of the loop goes out in one write.

        Raises:
            WindowFullError: nothing was sent.
        """
        if len(self._in_flight) >= self._max_in_flight or self.bytes_in_flight >= MAX_BYTES_IN_FLIGHT:
            raise WindowFullError(
                f"{len(self._in_flight)} messages of {self.bytes_in_flight} bytes wait for RabbitMQ's confirm"
            )
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent += self._framing.frames(message)
        self._last_tag += 1
        self._in_flight[self._last_tag] = _InFlight(outcome, message, self._loop.time())
        self.bytes_in_flight += len(message.body)

    def flush(self) -> None:
        """Write what was not written yet."""
        frames = b"".join(self._unsent)
        self._unsent.clear()
        if self._channel is not None:
            self._channel.wire.write(frames)

    async def settle(self) -> None:
        """Wait until nothing is in flight any more."""
        while self._in_flight:
            self._moved.clear()
            await self._moved.wait()

    def end(self, error: LostError) -> None:
        """Hear nothing more, for a number may be used again; what is in flight fails with this error."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.wire.hand_back(channel.number)
        self._unsent.clear()
        self._returned.clear()
        self._moved.set()
        abandoned, self._in_flight = self._in_flight, {}
        self.bytes_in_flight = 0
        for outcome, _, _ in abandoned.values():
            self._fail(outcome, LOST, error)

    # What the wire hears.

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        confirmed = 0
        now, today = self._loop.time(), time.time()
        nacking = self.nacking
        for outcome, message, sent_at in self._taken(delivery_tag, multiple=multiple):
            if self._returned and (reason := self._take_return(message)) is not None:
                self._fail(outcome, RETURNED, ReturnedError(f"RabbitMQ returned the message: {reason}"))
                continue
            if nacking:
                nacking.pop(message.routing_key, None)
            confirmed += 1
            self._counts.waits.observe(now - sent_at)
            if message.happened_at is not None:
                self._counts.ages.observe(today - message.happened_at)
            outcome(None)
        self.confirmed += confirmed
        self._counts.outcomes[CONFIRMED].count += confirmed

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        for outcome, message, _ in self._taken(delivery_tag, multiple=multiple):
            if len(self.nacking) < _MOST_KEYS:
                self.nacking.setdefault(message.routing_key, self._loop.time())
            self._fail(outcome, NACKED, NackedError("RabbitMQ refused the message (basic.nack)"))

    def returned(self, message: spec.Basic.Return, message_id: str) -> None:
        # The return comes just before its ack. Two in flight with one identity are one event on one way:
        # whichever of them takes the return, the other's confirm says truly that the event is in a queue.
        identity = _Identity(message.exchange, message.routing_key or "", message_id)
        self._returned.setdefault(identity, []).append(message.reply_text or "")
        self.unroutable = True
        self._noticed(self)

    def closed(self, code: int, text: str) -> None:
        # A frame that is written after aiormq's answer to this would cost the whole connection.
        self.closed_by = ChannelClosedError(code, text)
        self._noticed(self)
        self.end(self.closed_by)

    def _taken(self, delivery_tag: int, *, multiple: bool) -> list[_InFlight]:
        """Take what this confirm speaks of out of the window, which is in the order of the tags."""
        self._moved.set()
        in_flight = self._in_flight
        if not multiple:
            one = in_flight.pop(delivery_tag, None)
            taken = [] if one is None else [one]
        else:
            taken = [in_flight.pop(tag) for tag in list(takewhile(delivery_tag.__ge__, in_flight))]
        for _, message, _ in taken:
            self.bytes_in_flight -= len(message.body)
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

    def _fail(self, outcome: Outcome, label: str, error: PublishError) -> None:
        self._counts.outcomes[label].count += 1
        outcome(error)


class _Identity(NamedTuple):
    """By what a return is told from a confirm."""

    exchange: str
    routing_key: str
    message_id: str
