"""Keeps a publish channel open as long as a connection lives: opens it, and replaces it when RabbitMQ closes it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.channels import call_with_timeout, start_closing
from bridge.amqp.errors import BrokerUnavailableError, session_errors_as_loss
from bridge.amqp.message_path import broker_close, path_of
from bridge.amqp.publish_channel import PublishChannel
from bridge.amqp.publish_errors import ChannelClosedError, LostError, NotConnectedError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_path import ConfirmChannel
    from bridge.amqp.publish_channel import PublishCounters

log = logs.logger("amqp")

_NOT_FOUND: Final = 404
_LOWEST_PROTOCOL_ERROR: Final = 500
"""From this reply code on, RabbitMQ closed the connection because of what was sent; below, for its own reasons."""

_OPEN_SECONDS: Final = 5.0
_REOPEN_SECONDS: Final = 0.0125
_CLOSE_REASON_SECONDS: Final = 1.0
_RETIRE_SECONDS: Final = 1.0
"""How long a replaced channel may wait for its last confirms."""


class ChannelKeeper:
    """The publish channels of a connection: the current one, and replaced ones that may still get confirms."""

    def __init__(
        self,
        counts: PublishCounters,
        *,
        max_in_flight: int,
        reopen_max: float,
        returns_from: Collection[str] = (),
    ) -> None:
        """Create a keeper. It has no channel before `open`.

        Args:
            counts: where its channels count outcomes.
            max_in_flight: the window of each channel.
            reopen_max: seconds: the longest pause before a new channel, where RabbitMQ closes one after the other.
            returns_from: as of `PublishChannel`.
        """
        self._counts = counts
        self._max_in_flight = max_in_flight
        self._reopen_max = reopen_max
        self._returns_from = returns_from
        self.connection: AbstractConnection | None = None
        """That of the session; None: there is none now."""
        self._opening = asyncio.Lock()
        self.current: PublishChannel | None = None
        """The channel to send on. None while there is no connection, or no open channel on it."""
        self._open: dict[PublishChannel, ConfirmChannel] = {}
        self._last_closed: PublishChannel | None = None
        """The last channel that RabbitMQ closed."""
        self._failed: PublishChannel | None = None
        """The channel that was used until it was closed, or returned a message."""
        self._closing: set[asyncio.Future[None]] = set()
        """Channels that are being closed. They end with the connection at the latest."""
        self._problem_noticed = asyncio.Event()
        self._opened = asyncio.Event()

    def __iter__(self) -> Iterator[PublishChannel]:
        """The channels on which messages may be in flight."""
        return iter(list(self._open))

    @property
    def last_close_reason(self) -> str:
        """Why RabbitMQ closed the last channel. Empty when a message was confirmed since."""
        closed = self._last_closed
        if closed is None or closed.closed_by is None or (self.current and self.current.confirmed):
            return ""
        return closed.closed_by.text

    async def open(self, connection: AbstractConnection) -> None:
        """Open the first channel on a new connection. `end` must follow.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
        """
        self.connection = connection
        await self._replace(connection, None)

    def end(self, connection: AbstractConnection) -> None:
        """The connection is no longer used: what is in flight on it fails."""
        self.connection = self.current = self._failed = None
        self._problem_noticed.clear()
        error = _loss_error(connection)
        for channel in self:
            self._open.pop(channel)
            channel.end(error)  # the next session starts with delivery tag 1 again

    async def ready(self) -> None:
        """Wait until there is an open channel."""
        while self.current is None:
            self._opened.clear()
            await self._opened.wait()

    async def renew(self) -> None:
        """Replace the current channel, and wait a little for the last confirms of the old one.

        Raises:
            NotConnectedError: there is no connection.
        """
        connection, old = self.connection, self.current
        if connection is None or old is None:
            raise NotConnectedError("there is no connection to RabbitMQ, or no channel on it")
        try:
            with session_errors_as_loss(connection):
                await self._replace(connection, old)
        except BrokerUnavailableError as loss:
            raise NotConnectedError(str(loss)) from loss

    def stop_as_unroutable(self) -> None:
        """An exchange or its queues are missing: nothing more is sent, and `keep_open` raises."""
        if self.current is not None:
            self.current.unroutable = True
            self._on_problem(self.current)

    async def keep_open(self, connection: AbstractConnection) -> None:
        """Open a new channel in place of each that RabbitMQ closes, as long as the connection lives.

        Raises:
            BrokerUnavailableError: a new session has to repair the topology, or the connection is unusable.
        """
        failed_in_a_row = 0
        while True:
            await self._problem_noticed.wait()
            self._problem_noticed.clear()
            channel, self._failed = self._failed, None
            if channel is None:
                continue
            if channel.unroutable:
                channel.flush()
                await channel.wait_until_idle()
                raise BrokerUnavailableError("RabbitMQ returned a message: an exchange has lost its queues")
            if channel.closed_by is None:
                # If the connection is lost, its reason is the better one.
                await asyncio.sleep(_CLOSE_REASON_SECONDS)
                raise BrokerUnavailableError("the channel was closed without a reason")
            code, text = channel.closed_by.code, channel.closed_by.text
            log.warning("RabbitMQ closed a channel", action="broker.channel_closed", code=code, reason=text)
            if code == _NOT_FOUND:
                raise BrokerUnavailableError(text)
            failed_in_a_row = 0 if channel.confirmed else failed_in_a_row + 1
            if failed_in_a_row > 1:
                await asyncio.sleep(min(_REOPEN_SECONDS * 2 ** min(failed_in_a_row, 10), self._reopen_max))
            await self._replace(connection, None)

    async def _replace(self, connection: AbstractConnection, old: PublishChannel | None) -> None:
        """Open a new channel in place of the old one, unless that has been done already."""
        async with self._opening:
            if self.current is not old:
                return
            new = PublishChannel(
                self._counts,
                max_in_flight=self._max_in_flight,
                on_problem=self._on_problem,
                returns_from=self._returns_from,
            )
            try:
                opening = path_of(connection).open_confirm_channel(connection, new)
                opened = await call_with_timeout(opening, _OPEN_SECONDS)
            except TimeoutError:
                raise BrokerUnavailableError(f"no channel was opened in {_OPEN_SECONDS:g} s") from None
            new.opened(opened)
            opened.channel.closing.add_done_callback(partial(self._on_channel_ended, new))
            self._open[new] = opened
            self.current = new
            self._opened.set()
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
            opened = self._open.pop(old, None)
            old.end(LostError("the channel was replaced before the confirm"))
        if opened is not None:
            closing = start_closing(opened.channel)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _on_problem(self, channel: PublishChannel) -> None:
        """The channel is closed, or has returned a message: nothing more is sent on it."""
        if channel.closed_by is not None:
            self._open.pop(channel, None)
            self._last_closed = channel
        if channel is self.current or channel.unroutable:
            self.current = None  # also after a return: live traffic would fill the window again and again
            self._failed = channel
            self._problem_noticed.set()

    def _on_channel_ended(self, channel: PublishChannel, closing: asyncio.Future[None]) -> None:
        """Aiormq reports the channel closed: by RabbitMQ, by us, or with its connection."""
        if not closing.cancelled():
            closing.exception()
        if channel is self.current:
            self.current = None
            self._failed = channel
            self._problem_noticed.set()


def _loss_error(connection: AbstractConnection) -> LostError:
    closed = broker_close(connection)
    if closed is not None and closed[0] >= _LOWEST_PROTOCOL_ERROR:
        return ChannelClosedError(*closed)
    return LostError("the connection to RabbitMQ was lost before the confirm")
