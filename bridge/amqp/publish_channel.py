"""One channel in confirm mode: the messages in flight on it, and the confirm, nack or return of each."""

from __future__ import annotations

import asyncio
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.amqp.publish_errors import (
    CONFIRMED,
    LOST,
    NACKED,
    RETURNED,
    ChannelClosedError,
    LostError,
    NackedError,
    PublishCallback,
    PublishError,
    ReturnedError,
    WindowFullError,
)
from bridge.telemetry import metric_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pamqp import commands as spec

    from bridge.amqp.message_path import ConfirmChannel
    from bridge.amqp.message_types import Message
    from bridge.telemetry.metrics import Metrics

    _InFlight = tuple[PublishCallback, Message, float]
    """Callback, message, and when it was sent by the loop's clock. A named tuple would take seven times as long to make."""

MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
"""Limit for the bodies in flight: memory that a broker that stops reading can cost. 10,000 usual events are 1.5 MB."""

_MAX_NACKED_KEYS: Final = 1000
"""Routing keys whose nacks are tracked. They come from the provider, so their number has no limit."""


class PublishCounters:
    """The metrics that all channels of one publisher share."""

    def __init__(self, metrics: Metrics) -> None:
        self.outcomes = {
            outcome: metrics.buffered_counter(metrics.publishes.labels(outcome))
            for outcome in (CONFIRMED, NACKED, RETURNED, LOST)
        }
        self.waits = metrics.buffered_histogram(metrics.confirm_seconds, metric_definitions.FAST_BUCKETS)
        self.age_histogram = metrics.age_histogram(metric_definitions.CONFIRMED)


class PublishChannel:
    """Sends messages, and calls the callback of each at its confirm, nack or return. It listens from `opened` to `end`."""

    def __init__(
        self,
        counts: PublishCounters,
        *,
        max_in_flight: int,
        on_problem: Callable[[PublishChannel], None],
        returns_from: Collection[str] = (),
    ) -> None:
        """Create a channel that is not open yet.

        Args:
            counts: where outcomes are counted.
            max_in_flight: how many messages may wait for their confirm.
            on_problem: called when the channel is closed, or a message was returned.
            returns_from: exchanges of which a return is no problem of the channel: who publishes to them binds the queues again.
        """
        self._counts = counts
        self._max_in_flight = max_in_flight
        self._on_problem = on_problem
        self._returns_from = returns_from
        self._loop = asyncio.get_running_loop()
        self._channel: ConfirmChannel | None = None
        self._last_tag = 0
        self._in_flight: dict[int, _InFlight] = {}
        """Delivery tag -> what waits for its confirm, oldest first."""
        self._returned: dict[_ReturnKey, list[str]] = {}
        self._idle = asyncio.Event()
        self.bytes_in_flight = 0
        self.confirmed = 0
        """Number of confirmed messages."""
        self.nacking: dict[str, float] = {}
        """Routing key -> since when every message with it was nacked."""
        self.unroutable = False
        """Whether a message was returned: an exchange has lost its bindings or queues."""
        self.closed_by: ChannelClosedError | None = None
        """Code and text with which RabbitMQ closed the channel."""

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def oldest_in_flight_seconds(self) -> float:
        """Seconds."""
        for _, _, sent_at in self._in_flight.values():
            return self._loop.time() - sent_at
        return 0.0

    def opened(self, channel: ConfirmChannel) -> None:
        """The channel is open, and its confirms arrive here."""
        self._channel = channel

    def send(self, message: Message, callback: PublishCallback) -> None:
        """Send a message. On the fast path everything sent in one iteration of the loop goes out in one write.

        Raises:
            WindowFullError: nothing was sent.
        """
        if len(self._in_flight) >= self._max_in_flight or self.bytes_in_flight >= MAX_BYTES_IN_FLIGHT:
            raise WindowFullError(
                f"{len(self._in_flight)} messages ({self.bytes_in_flight} bytes) wait for RabbitMQ's confirm"
            )
        if self._channel is not None:
            self._channel.send(message)
        self._last_tag += 1
        self._in_flight[self._last_tag] = callback, message, self._loop.time()
        self.bytes_in_flight += len(message.body)

    def flush(self) -> None:
        """Write what is still buffered."""
        if self._channel is not None:
            self._channel.flush()

    async def wait_until_idle(self) -> None:
        """Wait until nothing is in flight."""
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()

    def end(self, error: LostError) -> None:
        """Stop listening, because the channel number may be reused. What is in flight fails with this error."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.release()
        self._returned.clear()
        self._idle.set()
        lost, self._in_flight = self._in_flight, {}
        self.bytes_in_flight = 0
        for callback, _, _ in lost.values():
            self._fail(callback, LOST, error)

    # From here on: `message_path.ConfirmListener`.

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        confirmed = 0
        now, unix_now = self._loop.time(), time.time()
        nacking = self.nacking
        for callback, message, sent_at in self._pop_confirmed(delivery_tag, multiple=multiple):
            if self._returned and (reason := self._pop_return(message)) is not None:
                self._fail(callback, RETURNED, ReturnedError(f"RabbitMQ returned the message: {reason}"))
                continue
            if nacking:
                nacking.pop(message.routing_key, None)
            confirmed += 1
            self._counts.waits.observe(now - sent_at)
            if message.happened_at is not None:
                self._counts.age_histogram.observe(unix_now - message.happened_at)
            callback(None)
        self.confirmed += confirmed
        self._counts.outcomes[CONFIRMED].count += confirmed

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        for callback, message, _ in self._pop_confirmed(delivery_tag, multiple=multiple):
            if len(self.nacking) < _MAX_NACKED_KEYS:
                self.nacking.setdefault(message.routing_key, self._loop.time())
            self._fail(callback, NACKED, NackedError("RabbitMQ refused the message (basic.nack)"))

    def returned(self, message: spec.Basic.Return, message_id: str) -> None:
        # The return comes just before its ack. Two messages in flight with the same key are the same event with the
        # same route: whichever of them takes the return, the confirm of the other is true.
        key = _ReturnKey(message.exchange, message.routing_key or "", message_id)
        self._returned.setdefault(key, []).append(message.reply_text or "")
        if message.exchange in self._returns_from:
            return
        self.unroutable = True
        self._on_problem(self)

    def closed(self, code: int, text: str) -> None:
        # A frame written after aiormq has answered the close would end the whole connection.
        self.closed_by = ChannelClosedError(code, text)
        self._on_problem(self)
        self.end(self.closed_by)

    def _pop_confirmed(self, delivery_tag: int, *, multiple: bool) -> list[_InFlight]:
        """Remove the messages of this confirm from those in flight, which are ordered by delivery tag."""
        in_flight = self._in_flight
        if not multiple:
            one = in_flight.pop(delivery_tag, None)
            popped = [] if one is None else [one]
        else:
            popped = [in_flight.pop(tag) for tag in list(takewhile(delivery_tag.__ge__, in_flight))]
        for _, message, _ in popped:
            self.bytes_in_flight -= len(message.body)
        if not in_flight:
            self._idle.set()
        return popped

    def _pop_return(self, message: Message) -> str | None:
        key = _ReturnKey(message.exchange, message.routing_key, message.message_id)
        reasons = self._returned.get(key)
        if reasons is None:
            return None
        reason = reasons.pop()
        if not reasons:
            del self._returned[key]
        return reason

    def _fail(self, callback: PublishCallback, label: str, error: PublishError) -> None:
        self._counts.outcomes[label].count += 1
        callback(error)


class _ReturnKey(NamedTuple):
    """Matches a `basic.return` to its message in flight."""

    exchange: str
    routing_key: str
    message_id: str
