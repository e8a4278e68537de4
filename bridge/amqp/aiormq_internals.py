"""The fast path: with `wire`, everything that the bridge uses of aio-pika and aiormq beyond their documented interface.

It is loaded only where their versions are known. `tests/unit/test_aiormq_contract.py` fails when a new version changes any
of it; docs/internals.md says what each part replaces.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.amqp.channels import close_channel, open_channel
from bridge.amqp.confirm_frames import ConfirmHandler
from bridge.amqp.delivery_frames import DeliveryAssembler
from bridge.amqp.frames import MessageFramer
from bridge.amqp.message_path import Connection, DeliveryChannel
from bridge.amqp.wire import TRANSPORT_FACTORY, Wire, wire_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel
    from yarl import URL

    from bridge.amqp.message_path import ConfirmListener
    from bridge.amqp.message_types import Delivery, Message
    from bridge.amqp.wire import FrameHandler


def make_fast_connection(url: URL, *, client_properties: dict[str, str]) -> Connection:
    """A connection, not opened yet, whose frames can be handled at the socket."""
    wire = Wire()
    connection = Connection(url, client_properties=client_properties, path=_FastPath(wire))
    connection.kwargs[TRANSPORT_FACTORY] = wire
    return connection


class _FastPath:
    """A `message_path.MessagePath`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def closed_with(self) -> tuple[int, str] | None:
        return self._wire.closed_with

    def abort(self) -> None:
        self._wire.abort()

    async def watch(
        self, connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
    ) -> None:
        del connection
        self._wire.watch_alarms(blocked=blocked, unblocked=unblocked)
        await self._wire.handler_failure()

    async def open_confirm_channel(
        self, connection: AbstractConnection, listener: ConfirmListener
    ) -> ConfirmChannel:
        return await open_confirm_channel(connection, listener)

    async def open_delivery_channel(
        self, connection: AbstractConnection, on_delivery: Callable[[Delivery], None]
    ) -> DeliveryChannel:
        channel = await open_routed_channel(connection, DeliveryAssembler(on_delivery).handle)
        return DeliveryChannel(channel, unused_consumer)

    async def close_delivery_channel(self, connection: AbstractConnection, channel: Channel) -> None:
        # Its frames are left to aiormq only when no more can come: some deliveries would end its reader.
        if await close_channel(connection, channel):
            self._wire.unroute(channel.number)


class ConfirmChannel:
    """A channel in confirm mode (a `message_path.ConfirmChannel`). Publishes and confirms bypass aiormq."""

    def __init__(self, wire: Wire, channel: Channel) -> None:
        self.wire = wire
        self.channel = channel
        self._framer = MessageFramer(channel.number, channel.max_content_size)
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []

    def send(self, message: Message) -> None:
        """Everything sent in one iteration of the loop goes out in one write."""
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent += self._framer.frames(message)

    def flush(self) -> None:
        frames = b"".join(self._unsent)
        self._unsent.clear()
        self.wire.write(frames)

    def release(self) -> None:
        """Leave its frames to aiormq: the channel number may be reused."""
        self._unsent.clear()
        self.wire.unroute(self.channel.number)


async def open_confirm_channel(connection: AbstractConnection, listener: ConfirmListener) -> ConfirmChannel:
    """As `message_path.MessagePath.open_confirm_channel`."""
    wire = wire_of(connection)
    channel = await open_channel(connection, publisher_confirms=True)
    wire.route(channel.number, ConfirmHandler(listener).handle)
    return ConfirmChannel(wire, channel)


async def open_routed_channel(connection: AbstractConnection, handler: FrameHandler) -> Channel:
    """Open a channel whose frames go to this handler.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
    """
    wire = wire_of(connection)
    channel = await open_channel(connection, publisher_confirms=False)
    wire.route(channel.number, handler)
    return channel


async def unused_consumer(_: object) -> None:
    """Aiormq requires a callback to consume. No delivery reaches it."""
