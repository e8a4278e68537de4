"""The confirmed publisher: many messages in flight, one future for each, resolved by RabbitMQ's confirm."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.aiormq_internals import apart, close_confirm_channel, open_confirm_channel
from bridge.amqp.connection import LinkState
from bridge.amqp.errors import BrokerUnavailableError, gone, losses_of, together
from bridge.amqp.nack_monitor import NackWatch
from bridge.amqp.publish_channel import MAX_BYTES_IN_FLIGHT, Counts, PublishChannel
from bridge.amqp.publish_errors import ChannelClosedError, LostError, NotConnectedError
from bridge.amqp.wire import closed_with
from bridge.telemetry import logs

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from prometheus_client import Gauge

    from bridge.amqp.aiormq_internals import ConfirmChannel
    from bridge.amqp.connection import Link
    from bridge.amqp.frames import Message
    from bridge.amqp.publish_errors import Outcome, PublishError
    from bridge.telemetry.metrics import Metrics

log = logs.logger("broker")

UNRESPONSIVE_SECONDS: Final = 5.0
"""Without any confirm: a connection that is open and dead. A quorum queue under load takes below 1 s."""

_NOT_FOUND: Final = 404
_OVER_A_MESSAGE: Final = 500
"""From here on a connection was closed for what was sent on it; below, for reasons of the broker's own."""

_REOPEN_SECONDS: Final = 0.0125
_REOPEN_MAX_SECONDS: Final = 1.0
_LAST_WORDS_SECONDS: Final = 1.0
_RETIRE_SECONDS: Final = 1.0
"""What the last confirms of a channel may take when another has taken its place."""


class Publisher:
    """Publishes with `mandatory` and confirms, on whichever connection its session runs on.

    A channel that RabbitMQ closes is replaced on the same connection; so is one that goes on being nacked.
    """

    def __init__(
        self,
        link: Link,
        *,
        max_in_flight: int,
        patience: float,
        metrics: Metrics,
        reopen_max: float = _REOPEN_MAX_SECONDS,
        shown: bool = True,
    ) -> None:
        """Make a publisher that cannot publish until its first session.

        Args:
            link: the connection that the sessions run on.
            max_in_flight: the window: messages that may wait for their confirm.
            patience: seconds without a confirm after which RabbitMQ counts as stalled.
            metrics: counts publishes by outcome, and how long they and their events take.
            reopen_max: the longest pause before a new channel, where one after the other is closed.
            shown: whether the metrics show its window; of several in one process one is to.
        """
        self._link = link
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._reopen_max = reopen_max
        self._counts = Counts(metrics)
        self._loop = asyncio.get_running_loop()
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()
        self._channel: PublishChannel | None = None
        self._open: dict[PublishChannel, ConfirmChannel] = {}
        """Those that may be heard of yet: the one that is used, and those that it has replaced."""
        self._closed: PublishChannel | None = None
        """The last one that RabbitMQ closed."""
        self._troubled: PublishChannel | None = None
        """The one that was used until it was closed, or returned a message."""
        self._closing: set[asyncio.Future[None]] = set()
        """Channels that RabbitMQ has been asked to close; they end with the connection at the latest."""
        self._noticed = asyncio.Event()
        self._ready = asyncio.Event()
        self._nacks = NackWatch()
        if shown:
            metrics.window_messages.set(max_in_flight)
            metrics.window_bytes.set(MAX_BYTES_IN_FLIGHT)
            metrics.before_reading(
                partial(self._measure, metrics.in_flight_messages, metrics.in_flight_bytes)
            )

    @property
    def in_flight(self) -> int:
        """How many messages wait for their confirm."""
        return sum(channel.in_flight for channel in self._open)

    @property
    def usable(self) -> bool:
        """Whether a message that is sent now can expect its confirm soon.

        Not while the connection is away, nor while RabbitMQ blocks it for an alarm, nor while the oldest message
        in flight waits for longer than `patience`.
        """
        channel = self._channel
        return (
            channel is not None and self._link.state is LinkState.UP and channel.oldest_wait < self._patience
        )

    @property
    def refusal(self) -> str:
        """What RabbitMQ said when it closed the last channel; empty once it has confirmed something since."""
        closed = self._closed
        if closed is None or closed.closed_by is None or (self._channel and self._channel.confirmed):
            return ""
        return closed.closed_by.text

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
        channel = self._channel
        if channel is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        channel.send(message, outcome)

    async def ready(self) -> None:
        """Wait until there is an open channel."""
        while self._channel is None:
            self._ready.clear()
            await self._ready.wait()

    async def renew(self) -> None:
        """Go on with a new channel; the last confirms of the old one are waited for, but not for long.

        Raises:
            NotConnectedError: there is no connection.
        """
        connection, old = self._connection, self._channel
        if connection is None or old is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        try:
            with losses_of(connection):
                await self._replace(connection, old)
        except BrokerUnavailableError as loss:
            raise NotConnectedError(str(loss)) from loss

    def taken_elsewhere(self, routing_key: str) -> None:
        """Another channel has had a message confirmed that was nacked before: do not wait long to be sure of this one."""
        if self._channel is not None and routing_key in self._channel.nacking:
            self._channel.nacking[routing_key] = float("-inf")
            self._nacks.at_once()

    def look_after_topology(self) -> None:
        """Somebody else was told that an exchange, or its queues, are missing: have the next session mend that."""
        if self._channel is not None:
            self._channel.unroutable = True
            self._notice(self._channel)

    async def session(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it is gone, or the topology has to be looked after.

        Raises:
            BrokerUnavailableError: so it is, or no confirm comes for `UNRESPONSIVE_SECONDS`.
        """
        self._connection = connection
        try:
            await self._replace(connection, None)
            self._link.opened()
            await together(
                confirms=self._confirms_come(),
                channel=self._keep_open(connection),
                connection=gone(connection),
            )
        finally:
            self._connection = self._channel = self._troubled = None
            self._noticed.clear()
            error = _why_lost(connection)
            for channel in list(self._open):
                self._open.pop(channel)
                channel.end(error)  # the tags of the next session begin anew

    async def settle(self) -> None:
        """Wait until nothing is in flight any more."""
        for channel in list(self._open):
            await channel.settle()

    async def _replace(self, connection: AbstractConnection, old: PublishChannel | None) -> None:
        """Open a channel in place of this one, unless somebody has done so."""
        async with self._opening:
            if self._channel is not old:
                return
            new = PublishChannel(self._counts, max_in_flight=self._max_in_flight, noticed=self._notice)
            try:
                opened = await apart(open_confirm_channel(connection, new), UNRESPONSIVE_SECONDS)
            except TimeoutError:
                raise BrokerUnavailableError(f"no channel was opened in {UNRESPONSIVE_SECONDS:g} s") from None
            new.opened(opened)
            opened.channel.closing.add_done_callback(partial(self._ended, new))
            self._open[new] = opened
            self._channel = new
            self._ready.set()
        if old is not None:
            await self._retire(old)

    async def _retire(self, old: PublishChannel) -> None:
        """It is used no more; what it does not confirm soon counts as lost."""
        old.flush()
        try:
            async with asyncio.timeout(_RETIRE_SECONDS):
                await old.settle()
        except TimeoutError:
            log.warning(
                "a channel is left with messages in flight",
                action="broker.channel_left",
                in_flight=old.in_flight,
            )
        finally:
            opened = self._open.pop(old, None)
            old.end(LostError("the channel was left before the confirm came"))
        if opened is not None:
            closing = close_confirm_channel(opened)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _notice(self, channel: PublishChannel) -> None:
        """It is closed, or has returned a message: nothing is sent on it from now on."""
        if channel.closed_by is not None:
            self._open.pop(channel, None)
            self._closed = channel
        if channel is self._channel or channel.unroutable:
            self._channel = None  # after a return, too: live traffic would fill the window again and again
            self._troubled = channel
            self._noticed.set()

    def _ended(self, channel: PublishChannel, closing: asyncio.Future[None]) -> None:
        """Aiormq is done with it: because RabbitMQ closed it, we did, or the connection is gone."""
        if not closing.cancelled():
            closing.exception()
        if channel is self._channel:
            self._channel = None
            self._troubled = channel
            self._noticed.set()

    async def _keep_open(self, connection: AbstractConnection) -> None:
        """Have a channel as long as the connection lives.

        Raises:
            BrokerUnavailableError: a new session has to mend the topology, or the connection is no good.
        """
        in_vain = 0
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            channel, self._troubled = self._troubled, None
            if channel is None:
                continue
            if channel.unroutable:
                channel.flush()
                await channel.settle()
                raise BrokerUnavailableError("RabbitMQ returned a message: an exchange has lost its queues")
            if channel.closed_by is None:
                await asyncio.sleep(
                    _LAST_WORDS_SECONDS
                )  # if it is the connection that is lost, that is the reason
                raise BrokerUnavailableError("the channel was closed without a word")
            code, text = channel.closed_by.code, channel.closed_by.text
            log.warning("RabbitMQ closed a channel", action="broker.channel_closed", code=code, reason=text)
            if code == _NOT_FOUND:
                raise BrokerUnavailableError(text)
            in_vain = 0 if channel.confirmed else in_vain + 1
            if in_vain > 1:
                await asyncio.sleep(min(_REOPEN_SECONDS * 2 ** min(in_vain, 10), self._reopen_max))
            await self._replace(connection, None)

    async def _confirms_come(self) -> None:
        """Notice a connection that is open and dead: a cable, a firewall, a broker that hangs.

        Heartbeats notice it too, but after three of them are missed. An alarm is not that: RabbitMQ tells of it.
        Notice as well a channel that is nacked all the time.
        """
        unblocked_at = self._loop.time()
        while True:
            await asyncio.sleep(UNRESPONSIVE_SECONDS / 5)
            if self._link.state is not LinkState.UP:
                unblocked_at = self._loop.time()
            oldest = max((channel.oldest_wait for channel in self._open), default=0.0)
            if min(oldest, self._loop.time() - unblocked_at) > UNRESPONSIVE_SECONDS:
                raise BrokerUnavailableError(f"no confirm came for {UNRESPONSIVE_SECONDS:g} s")
            nacking = self._channel.nacking if self._channel and self._link.state is LinkState.UP else {}
            if nacked := self._nacks.nacked_for_long(nacking, self._loop.time()):
                log.warning(
                    "RabbitMQ goes on refusing: a new channel", action="broker.channel_renewed", names=nacked
                )
                with suppress(NotConnectedError):
                    await self.renew()

    def _measure(self, messages: Gauge, in_bytes: Gauge) -> None:
        messages.set(self.in_flight)
        in_bytes.set(sum(channel.bytes_in_flight for channel in self._open))


def _why_lost(connection: AbstractConnection) -> LostError:
    closed = closed_with(connection)
    if closed is not None and closed[0] >= _OVER_A_MESSAGE:
        return ChannelClosedError(*closed)
    return LostError("the connection to RabbitMQ was lost before the confirm")


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
