"""How the messages of one connection travel: bypassing aiormq (fast path), or by its documented interface (plain path).

The fast path is `aiormq_internals` with `wire`, `frames`, `confirm_frames` and `delivery_frames`, the plain path is
`plain_path`; `connection` takes the one that `fast_path` decides for. All others ask the connection, with `path_of`. Why there
are two is in docs/internals.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aio_pika

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel
    from pamqp import commands as spec
    from yarl import URL

    from bridge.amqp.message_types import Delivery, Message


class ConfirmListener(Protocol):
    """Receives confirms, nacks and returns of a channel. It must not raise: both paths call it from the event loop."""

    def acked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def returned(self, message: spec.Basic.Return, message_id: str) -> None: ...

    def closed(self, code: int, text: str) -> None:
        """RabbitMQ has closed the channel. Nothing more may be written on it."""


class ConfirmChannel(Protocol):
    """A channel in confirm mode. Its listener gets the outcome of each publish, until `release`."""

    @property
    def channel(self) -> Channel:
        """The channel of aiormq, which opens it and learns when it is closed."""

    def send(self, message: Message) -> None:
        """Publish, in the order of the calls. The first message has delivery tag 1."""

    def flush(self) -> None:
        """Write what is still buffered."""

    def release(self) -> None:
        """Stop calling the listener."""


class DeliveryChannel(NamedTuple):
    """A channel whose deliveries go to a callback as whole messages."""

    channel: Channel
    consumer: Callable[[Any], Coroutine[Any, Any, None]]
    """The argument for its `basic_consume`."""


class MessagePath(Protocol):
    """What the two paths do differently."""

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Code and text with which RabbitMQ closed this connection; None if it did not, or it is not known."""

    def abort(self) -> None:
        """Close the socket at once, without sending what is buffered, if that is possible."""

    async def watch(
        self, connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
    ) -> None:
        """Wait for ever, and report RabbitMQ's alarms. Raises what a listener or a delivery callback has raised."""

    async def open_confirm_channel(
        self, connection: AbstractConnection, listener: ConfirmListener
    ) -> ConfirmChannel:
        """Open a channel in confirm mode whose confirms go to this listener.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
        """

    async def open_delivery_channel(
        self, connection: AbstractConnection, on_delivery: Callable[[Delivery], None]
    ) -> DeliveryChannel:
        """Open a channel to consume on. `on_delivery` gets the deliveries in order; it must not raise.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or the broker refuses.
        """

    async def close_delivery_channel(self, connection: AbstractConnection, channel: Channel) -> None:
        """Close it, within a time limit. Deliveries that still arrive for it are dropped.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """


class Connection(aio_pika.Connection):
    """A connection of aio-pika that knows its path."""

    def __init__(self, url: URL, *, client_properties: dict[str, str], path: MessagePath) -> None:
        super().__init__(url, client_properties=dict(client_properties))
        self.path = path


def path_of(connection: AbstractConnection) -> MessagePath:
    """Raises TypeError: `open_connection` has not made this connection."""
    if not isinstance(connection, Connection):
        raise TypeError("the connection must come from open_connection")
    return connection.path


def broker_close(connection: AbstractConnection) -> tuple[int, str] | None:
    """Code and text with which RabbitMQ closed this connection; None if it did not, or it is not known."""
    return connection.path.closed_with if isinstance(connection, Connection) else None
