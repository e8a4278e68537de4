"""All that we use of aiormq beyond its documented interface, in one place.

`tests/unit/test_aiormq_contract.py` fails when an upgrade changes any of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp import commands as spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import ConfirmationFrameType


class Confirmations(Protocol):
    """Whoever wants to hear what RabbitMQ says of each publish."""

    def acked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def returned(self, message_id: str, reason: str) -> None: ...


class ConfirmChannel(Channel):
    """A channel in confirm mode that hands confirms on as they come.

    aiormq itself resolves a `multiple` confirm by walking every publish in flight, and matches a return by a
    message id that two publishes may share (aio-pika#689); here both are the publisher's own business.
    """

    listener: Confirmations

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        tag = frame.delivery_tag
        if tag is None:
            return
        if isinstance(frame, spec.Basic.Ack):
            self.listener.acked(tag, multiple=frame.multiple)
        elif isinstance(frame, spec.Basic.Nack):
            self.listener.nacked(tag, multiple=frame.multiple)

    async def _on_return_frame(self, frame: spec.Basic.Return) -> None:
        header = await self._get_frame()
        message = await self._read_content(frame, header)  # type: ignore[arg-type]  # the header follows the return
        self.listener.returned(message.header.properties.message_id or "", frame.reply_text or "")


async def open_confirm_channel(connection: AbstractConnection, listener: Confirmations) -> ConfirmChannel:
    """Open a channel in confirm mode on this connection.

    Raises:
        aiormq.exceptions.AMQPError: the connection is gone, or the broker refuses.
    """
    transport = _aiormq_connection(connection)
    number = max(transport.channels, default=0) + 1
    channel = ConfirmChannel(transport, number, publisher_confirms=True)
    channel.listener = listener
    transport.channels[number] = channel
    await channel.open()
    return channel


def watch_alarms(
    connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
) -> None:
    """Be told of `connection.blocked` and `connection.unblocked`, which aiormq only logs."""
    transport = _aiormq_connection(connection)

    async def on_blocked(frame: spec.Connection.Blocked) -> None:
        blocked(frame.reason or "")

    async def on_unblocked(_: spec.Connection.Unblocked) -> None:
        unblocked()

    setattr(transport, BLOCKED_HANDLER, on_blocked)
    setattr(transport, UNBLOCKED_HANDLER, on_unblocked)


BLOCKED_HANDLER = "_Connection__handle_connection_blocked"
UNBLOCKED_HANDLER = "_Connection__handle_connection_unblocked"


def _aiormq_connection(connection: AbstractConnection) -> Connection:
    if connection.transport is None or not isinstance(connection.transport.connection, Connection):
        raise ConnectionError("the connection to RabbitMQ was closed before it could be used")
    return connection.transport.connection
