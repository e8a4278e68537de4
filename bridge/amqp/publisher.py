"""The confirmed publisher: many messages in flight, and a future or a callback for the confirm of each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.aiormq_internals import call_with_timeout, close_confirm_channel, open_confirm_channel
from bridge.amqp.connection import LinkState
from bridge.amqp.errors import (
    BrokerUnavailableError,
    session_errors_as_loss,
    wait_closed,
)
from bridge.amqp.nack_monitor import NackMonitor
from bridge.amqp.publish_channel import MAX_BYTES_IN_FLIGHT, PublishChannel, PublishCounters
from bridge.amqp.publish_errors import ChannelClosedError, LostError, NotConnectedError
from bridge.amqp.wire import broker_close
from bridge.tasks import mark_exception_retrieved, run_until_first_ends
from bridge.telemetry import logs

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from prometheus_client import Gauge

    from bridge.amqp.aiormq_internals import ConfirmChannel
    from bridge.amqp.connection import Link
    from bridge.amqp.frames import Message
    from bridge.amqp.publish_errors import PublishCallback, PublishError
    from bridge.telemetry.metrics import Metrics

log = logs.logger("amqp")

UNRESPONSIVE_SECONDS: Final = 5.0
"""No confirm for so long: the connection is open and dead. A quorum queue under load takes below 1 s."""

_NOT_FOUND: Final = 404
_LOWEST_PROTOCOL_ERROR: Final = 500
"""From this reply code on, RabbitMQ closed the connection because of what was sent; below, for its own reasons."""

_REOPEN_SECONDS: Final = 0.0125
_REOPEN_MAX_SECONDS: Final = 1.0
_CLOSE_REASON_SECONDS: Final = 1.0
_RETIRE_SECONDS: Final = 1.0
"""How long a replaced channel may wait for its last confirms."""


class Publisher:
    """Publishes with `mandatory` and confirms, on the connection of its current session.

    It replaces a channel that RabbitMQ closes, or that is nacked all the time, on the same connection.
    """

    def __init__(
        self,
        link: Link,
        *,
        max_in_flight: int,
        stalled_after: float,
        metrics: Metrics,
        reopen_max: float = _REOPEN_MAX_SECONDS,
        show_window: bool = True,
    ) -> None:
        """Create a publisher. It cannot publish before its first session.

        Args:
            link: the connection on which the sessions run.
            max_in_flight: the window: how many messages may wait for their confirm.
            stalled_after: seconds without a confirm after which RabbitMQ counts as stalled.
            metrics: count publishes by outcome, the time to the confirm, and the age of events.
            reopen_max: seconds: the longest pause before a new channel, where RabbitMQ closes one after the other.
            show_window: whether the metrics show its window. Only one publisher of a process may.
        """
        self._link = link
        self._max_in_flight = max_in_flight
        self._stalled_after = stalled_after
        self._reopen_max = reopen_max
        self._counts = PublishCounters(metrics)
        self._loop = asyncio.get_running_loop()
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()
        self._channel: PublishChannel | None = None
        self._channels: dict[PublishChannel, ConfirmChannel] = {}
        """The current channel, and replaced ones that may still get confirms."""
        self._last_closed: PublishChannel | None = None
        """The last channel that RabbitMQ closed."""
        self._failed_channel: PublishChannel | None = None
        """The channel that was used until it was closed, or returned a message."""
        self._closing: set[asyncio.Future[None]] = set()
        """Channels that are being closed. They end with the connection at the latest."""
        self._problem_noticed = asyncio.Event()
        self._ready = asyncio.Event()
        self._nack_monitor = NackMonitor()
        if show_window:
            metrics.window_messages.set(max_in_flight)
            metrics.window_bytes.set(MAX_BYTES_IN_FLIGHT)
            metrics.before_scrape(
                partial(self._export_window, metrics.in_flight_messages, metrics.in_flight_bytes)
            )

    @property
    def in_flight(self) -> int:
        """How many messages wait for their confirm."""
        return sum(channel.in_flight for channel in self._channels)

    @property
    def usable(self) -> bool:
        """Whether a message sent now can expect its confirm soon.

        False while there is no connection, while RabbitMQ blocks it because of an alarm, and while the oldest message
        in flight has waited for `stalled_after` or longer.
        """
        channel = self._channel
        return (
            channel is not None
            and self._link.state is LinkState.UP
            and channel.oldest_in_flight_seconds < self._stalled_after
        )

    @property
    def last_close_reason(self) -> str:
        """Why RabbitMQ closed the last channel. Empty when a message was confirmed since."""
        closed = self._last_closed
        if closed is None or closed.closed_by is None or (self._channel and self._channel.confirmed):
            return ""
        return closed.closed_by.text

    def publish(self, message: Message) -> asyncio.Future[None]:
        """Send a message. The future is done at RabbitMQ's confirm, or fails with a `PublishError`.

        The caller may cancel it. The publish goes on, and its outcome is counted.

        Raises:
            NotConnectedError: nothing was sent.
            WindowFullError: nothing was sent.
        """
        confirm: asyncio.Future[None] = self._loop.create_future()
        confirm.add_done_callback(mark_exception_retrieved)
        self.send(message, partial(_resolve, confirm))
        return confirm

    def send(self, message: Message, callback: PublishCallback) -> None:
        """Send a message, and call `callback` with its outcome. It is cheaper than a future.

        Everything sent in one iteration of the loop goes out in one write.

        Raises:
            NotConnectedError: nothing was sent.
            WindowFullError: nothing was sent.
        """
        channel = self._channel
        if channel is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        channel.send(message, callback)

    async def ready(self) -> None:
        """Wait until there is an open channel."""
        while self._channel is None:
            self._ready.clear()
            await self._ready.wait()

    async def renew_channel(self) -> None:
        """Replace the channel, and wait a little for the last confirms of the old one.

        Raises:
            NotConnectedError: there is no connection.
        """
        connection, old = self._connection, self._channel
        if connection is None or old is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        try:
            with session_errors_as_loss(connection):
                await self._replace(connection, old)
        except BrokerUnavailableError as loss:
            raise NotConnectedError(str(loss)) from loss

    def note_confirmed_elsewhere(self, routing_key: str) -> None:
        """Another channel got a confirm for a key that was nacked. If this one is nacked too, replace it without delay."""
        if self._channel is not None and routing_key in self._channel.nacking:
            self._channel.nacking[routing_key] = float("-inf")
            self._nack_monitor.allow_now()

    def request_topology_repair(self) -> None:
        """An exchange or its queues are missing: end this session, so that the next one repairs the topology."""
        if self._channel is not None:
            self._channel.unroutable = True
            self._on_channel_problem(self._channel)

    async def session(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it is closed, or the topology has to be repaired.

        Raises:
            BrokerUnavailableError: it is closed, the topology needs repair, or no confirm came for
                `UNRESPONSIVE_SECONDS`.
        """
        self._connection = connection
        try:
            await self._replace(connection, None)
            self._link.opened()
            await run_until_first_ends(
                confirms=self._detect_stall(),
                channel=self._keep_channel_open(connection),
                connection=wait_closed(connection),
            )
        finally:
            self._connection = self._channel = self._failed_channel = None
            self._problem_noticed.clear()
            error = _loss_error(connection)
            for channel in list(self._channels):
                self._channels.pop(channel)
                channel.end(error)  # the next session starts with delivery tag 1 again

    async def wait_until_idle(self) -> None:
        """Wait until nothing is in flight."""
        for channel in list(self._channels):
            await channel.wait_until_idle()

    async def _replace(self, connection: AbstractConnection, old: PublishChannel | None) -> None:
        """Open a new channel in place of the old one, unless that has been done already."""
        async with self._opening:
            if self._channel is not old:
                return
            new = PublishChannel(
                self._counts, max_in_flight=self._max_in_flight, on_problem=self._on_channel_problem
            )
            try:
                opened = await call_with_timeout(open_confirm_channel(connection, new), UNRESPONSIVE_SECONDS)
            except TimeoutError:
                raise BrokerUnavailableError(f"no channel was opened in {UNRESPONSIVE_SECONDS:g} s") from None
            new.opened(opened)
            opened.channel.closing.add_done_callback(partial(self._on_channel_ended, new))
            self._channels[new] = opened
            self._channel = new
            self._ready.set()
        if old is not None:
            await self._retire(old)

    async def _retire(self, old: PublishChannel) -> None:
        """The channel is no longer used. What is not confirmed soon counts as lost."""
        old.flush()
        try:
            async with asyncio.timeout(_RETIRE_SECONDS):
                await old.wait_until_idle()
        except TimeoutError:
            log.warning(
                "a replaced channel is closed with messages in flight",
                action="broker.channel_abandoned",
                in_flight=old.in_flight,
            )
        finally:
            opened = self._channels.pop(old, None)
            old.end(LostError("the channel was replaced before the confirm"))
        if opened is not None:
            closing = close_confirm_channel(opened)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _on_channel_problem(self, channel: PublishChannel) -> None:
        """The channel is closed, or has returned a message: nothing more is sent on it."""
        if channel.closed_by is not None:
            self._channels.pop(channel, None)
            self._last_closed = channel
        if channel is self._channel or channel.unroutable:
            self._channel = None  # also after a return: live traffic would fill the window again and again
            self._failed_channel = channel
            self._problem_noticed.set()

    def _on_channel_ended(self, channel: PublishChannel, closing: asyncio.Future[None]) -> None:
        """Aiormq reports the channel closed: by RabbitMQ, by us, or with its connection."""
        if not closing.cancelled():
            closing.exception()
        if channel is self._channel:
            self._channel = None
            self._failed_channel = channel
            self._problem_noticed.set()

    async def _keep_channel_open(self, connection: AbstractConnection) -> None:
        """Keep a channel open as long as the connection lives.

        Raises:
            BrokerUnavailableError: a new session has to repair the topology, or the connection is unusable.
        """
        failed_in_a_row = 0
        while True:
            await self._problem_noticed.wait()
            self._problem_noticed.clear()
            channel, self._failed_channel = self._failed_channel, None
            if channel is None:
                continue
            if channel.unroutable:
                channel.flush()
                await channel.wait_until_idle()
                raise BrokerUnavailableError("RabbitMQ returned a message: an exchange has lost its queues")
            if channel.closed_by is None:
                await asyncio.sleep(
                    _CLOSE_REASON_SECONDS
                )  # if the connection is lost, its reason is the better one
                raise BrokerUnavailableError("the channel was closed without a reason")
            code, text = channel.closed_by.code, channel.closed_by.text
            log.warning("RabbitMQ closed a channel", action="broker.channel_closed", code=code, reason=text)
            if code == _NOT_FOUND:
                raise BrokerUnavailableError(text)
            failed_in_a_row = 0 if channel.confirmed else failed_in_a_row + 1
            if failed_in_a_row > 1:
                await asyncio.sleep(min(_REOPEN_SECONDS * 2 ** min(failed_in_a_row, 10), self._reopen_max))
            await self._replace(connection, None)

    async def _detect_stall(self) -> None:
        """Detect a connection that is open and dead (cable, firewall, hanging broker), and a channel that is always nacked.

        Heartbeats detect the first too, but only after three are missed. During an alarm, of which RabbitMQ informs us,
        missing confirms are normal.
        """
        unblocked_at = self._loop.time()
        while True:
            await asyncio.sleep(UNRESPONSIVE_SECONDS / 5)
            if self._link.state is not LinkState.UP:
                unblocked_at = self._loop.time()
            oldest = max((channel.oldest_in_flight_seconds for channel in self._channels), default=0.0)
            if min(oldest, self._loop.time() - unblocked_at) > UNRESPONSIVE_SECONDS:
                raise BrokerUnavailableError(f"no confirm came for {UNRESPONSIVE_SECONDS:g} s")
            nacking = self._channel.nacking if self._channel and self._link.state is LinkState.UP else {}
            if nacked := self._nack_monitor.keys_nacked_too_long(nacking, self._loop.time()):
                log.warning(
                    "RabbitMQ nacks all the time: a new channel is opened",
                    action="broker.channel_renewed",
                    names=nacked,
                )
                with suppress(NotConnectedError):
                    await self.renew_channel()

    def _export_window(self, messages: Gauge, in_bytes: Gauge) -> None:
        messages.set(self.in_flight)
        in_bytes.set(sum(channel.bytes_in_flight for channel in self._channels))


def _loss_error(connection: AbstractConnection) -> LostError:
    closed = broker_close(connection)
    if closed is not None and closed[0] >= _LOWEST_PROTOCOL_ERROR:
        return ChannelClosedError(*closed)
    return LostError("the connection to RabbitMQ was lost before the confirm")


def _resolve(confirm: asyncio.Future[None], error: PublishError | None) -> None:
    if confirm.done():
        return
    if error is None:
        confirm.set_result(None)
    else:
        confirm.set_exception(error)
