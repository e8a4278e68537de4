"""The confirmed publisher: many messages in flight, and a future or a callback for the confirm of each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.channel_keeper import ChannelKeeper
from bridge.amqp.connection import LinkState
from bridge.amqp.errors import BrokerUnavailableError, wait_closed
from bridge.amqp.nack_monitor import NackMonitor
from bridge.amqp.publish_channel import MAX_BYTES_IN_FLIGHT, PublishCounters
from bridge.amqp.publish_errors import NotConnectedError
from bridge.tasks import mark_exception_retrieved, run_until_first_ends
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection

    from aio_pika.abc import AbstractConnection
    from prometheus_client import Gauge

    from bridge.amqp.connection import Link
    from bridge.amqp.message_types import Message
    from bridge.amqp.publish_errors import PublishCallback, PublishError
    from bridge.telemetry.metrics import Metrics

log = logs.logger("amqp")

UNRESPONSIVE_SECONDS: Final = 5.0
"""After this time without a confirm the connection counts as dead, although it is open. A quorum queue under load takes
below 1 s."""

_MAX_REOPEN_SECONDS: Final = 1.0


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
        reopen_max: float = _MAX_REOPEN_SECONDS,
        show_window: bool = True,
        returns_from: Collection[str] = (),
    ) -> None:
        """Create a publisher. It cannot publish before its first session.

        Args:
            link: the connection on which the sessions run.
            max_in_flight: the window: how many messages may wait for their confirm.
            stalled_after: seconds without a confirm after which RabbitMQ counts as stalled.
            metrics: count publishes by outcome, the time to the confirm, and the age of events.
            reopen_max: seconds: the longest pause before a new channel, where RabbitMQ closes one after the other.
            show_window: whether the metrics show its window. Only one publisher of a process may.
            returns_from: exchanges of which a returned message does not end the session: who publishes to them binds the
                queues again.
        """
        self._link = link
        self._stalled_after = stalled_after
        self._loop = asyncio.get_running_loop()
        self._channels = ChannelKeeper(
            PublishCounters(metrics),
            max_in_flight=max_in_flight,
            reopen_max=reopen_max,
            returns_from=returns_from,
        )
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
    def connection(self) -> AbstractConnection | None:
        """The connection of its session; None: there is none now."""
        return self._channels.connection

    @property
    def usable(self) -> bool:
        """Whether a message sent now can expect its confirm soon.

        False while there is no connection, while RabbitMQ blocks it because of an alarm, and while the oldest message
        in flight has waited for `stalled_after` or longer.
        """
        channel = self._channels.current
        return (
            channel is not None
            and self._link.state is LinkState.UP
            and channel.oldest_in_flight_seconds < self._stalled_after
        )

    @property
    def last_close_reason(self) -> str:
        """Why RabbitMQ closed the last channel. Empty when a message was confirmed since."""
        return self._channels.last_close_reason

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
        channel = self._channels.current
        if channel is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        channel.send(message, callback)

    async def ready(self) -> None:
        """Wait until there is an open channel."""
        await self._channels.ready()

    async def renew_channel(self) -> None:
        """Replace the channel, and wait a little for the last confirms of the old one.

        Raises:
            NotConnectedError: there is no connection.
        """
        await self._channels.renew()

    def note_confirmed_elsewhere(self, routing_key: str) -> None:
        """Another channel got a confirm for a key that was nacked. If this one is nacked too, replace it without delay."""
        channel = self._channels.current
        if channel is not None and routing_key in channel.nacking:
            channel.nacking[routing_key] = float("-inf")
            self._nack_monitor.allow_now()

    def request_topology_repair(self) -> None:
        """An exchange or its queues are missing: end this session, so that the next one repairs the topology."""
        self._channels.stop_as_unroutable()

    async def session(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it is closed, or the topology has to be repaired.

        Raises:
            BrokerUnavailableError: it is closed, the topology needs repair, or no confirm came for
                `UNRESPONSIVE_SECONDS`.
        """
        try:
            await self._channels.open(connection)
            self._link.opened()
            await run_until_first_ends(
                confirms=self._detect_stall(),
                channel=self._channels.keep_open(connection),
                connection=wait_closed(connection),
            )
        finally:
            self._channels.end(connection)

    async def wait_until_idle(self) -> None:
        """Wait until nothing is in flight."""
        for channel in self._channels:
            await channel.wait_until_idle()

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
            channel = self._channels.current if self._link.state is LinkState.UP else None
            nacking = channel.nacking if channel else {}
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


def _resolve(confirm: asyncio.Future[None], error: PublishError | None) -> None:
    if confirm.done():
        return
    if error is None:
        confirm.set_result(None)
    else:
        confirm.set_exception(error)
