"""The plain path: publishes, confirms and deliveries by the documented interface of aio-pika and aiormq alone.

It works with any version of them, costs several times as much CPU, and cannot do all that the fast path can:
docs/internals.md.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from struct import error as StructError  # noqa: N812 -- it is a class
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from aiormq import exceptions as aiormq_errors
from aiormq.exceptions import AMQPError, DeliveryError
from pamqp import commands as spec

from bridge.amqp.channels import aiormq_connection, close_channel, open_channel
from bridge.amqp.errors import ConnectionLostError, call_errors_as_loss
from bridge.amqp.message_path import Connection, DeliveryChannel
from bridge.amqp.message_types import Delivery
from bridge.amqp.properties import decode_properties
from bridge.tasks import mark_exception_retrieved, run_until_first_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel
    from aiormq.abc import DeliveredMessage
    from yarl import URL

    from bridge.amqp.message_path import ConfirmListener
    from bridge.amqp.message_types import Message

_ALARM_POLL_SECONDS: Final = 0.1
"""aiormq does not report an alarm, but can be asked."""
_UNKNOWN_ALARM: Final = "an alarm of unknown kind"
_CODES: Final[Mapping[type[Exception], int]] = MappingProxyType(
    {
        aiormq_errors.ChannelAccessRefused: 403,
        aiormq_errors.ChannelNotFoundEntity: 404,
        aiormq_errors.ChannelLockedResource: 405,
        aiormq_errors.ChannelPreconditionFailed: 406,
        aiormq_errors.ConnectionFrameError: 501,
        aiormq_errors.ConnectionSyntaxError: 502,
        aiormq_errors.ConnectionCommandInvalid: 503,
        aiormq_errors.ConnectionChannelError: 504,
        aiormq_errors.ConnectionUnexpectedFrame: 505,
        aiormq_errors.ConnectionResourceError: 506,
        aiormq_errors.ConnectionNotAllowed: 530,
        aiormq_errors.ConnectionNotImplemented: 540,
        aiormq_errors.ConnectionInternalError: 541,
    }
)
"""aiormq turns these reply codes (AMQP 0-9-1, 1.2) into classes; of all others it keeps the number."""


def make_plain_connection(url: URL, *, client_properties: dict[str, str]) -> Connection:
    """A connection, not opened yet."""
    return _Connection(url, client_properties=client_properties, path=_PlainPath())


class _Connection(Connection):
    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- it is aio-pika's
        await super().connect(timeout)
        if isinstance(self.path, _PlainPath):
            self.path.on_connected(self)


class _PlainPath:
    """A `message_path.MessagePath`."""

    def __init__(self) -> None:
        self._closing: asyncio.Future[Any] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure.add_done_callback(mark_exception_retrieved)

    def on_connected(self, connection: AbstractConnection) -> None:
        self._closing = aiormq_connection(connection).closing

    @property
    def closed_with(self) -> tuple[int, str] | None:
        return None if self._closing is None else _closed_with(self._closing)

    def abort(self) -> None:
        """Not possible: aiormq has no interface for its socket. If the broker hangs, missing heartbeats end the connection."""

    async def watch(
        self, connection: AbstractConnection, *, blocked: Callable[[str], None], unblocked: Callable[[], None]
    ) -> None:
        await run_until_first_ends(
            alarms=_report_alarms(connection, blocked, unblocked), failure=_wait_for(self._failure)
        )

    async def open_confirm_channel(
        self, connection: AbstractConnection, listener: ConfirmListener
    ) -> ConfirmChannel:
        channel = await open_channel(connection, publisher_confirms=True)
        return ConfirmChannel(connection, channel, listener, self._fail)

    async def open_delivery_channel(
        self, connection: AbstractConnection, on_delivery: Callable[[Delivery], None]
    ) -> DeliveryChannel:
        channel = await open_channel(connection, publisher_confirms=False)

        async def consumer(message: DeliveredMessage) -> None:
            try:
                on_delivery(_delivery(message))
            except Exception as error:  # noqa: BLE001 -- aiormq would only log it, and the message would stay unacknowledged
                self._fail(error)

        return DeliveryChannel(channel, consumer)

    async def close_delivery_channel(self, connection: AbstractConnection, channel: Channel) -> None:
        await close_channel(connection, channel)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)


class ConfirmChannel:
    """A channel in confirm mode (a `message_path.ConfirmChannel`). A task for each publish waits for its confirm."""

    def __init__(
        self,
        connection: AbstractConnection,
        channel: Channel,
        listener: ConfirmListener,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.channel = channel
        self._connection = connection
        self._listener: ConfirmListener | None = listener
        self._on_failure = on_failure
        self._last_tag = 0
        self._publishes: set[asyncio.Task[None]] = set()
        self._newest: dict[str, asyncio.Task[None]] = {}
        """Message id -> the newest publish with it that is in flight."""
        channel.closing.add_done_callback(self._on_channel_closed)

    def send(self, message: Message) -> None:
        self._last_tag += 1
        earlier = self._newest.get(message.message_id)
        task = asyncio.create_task(self._publish(self._last_tag, message, earlier), name="broker.publish")
        self._publishes.add(task)
        if message.message_id:
            self._newest[message.message_id] = task
        task.add_done_callback(lambda ended: self._on_publish_ended(message.message_id, ended))

    def flush(self) -> None:
        """Nothing to do: aiormq writes at once."""

    def release(self) -> None:
        self._listener = None
        for task in self._publishes:
            task.cancel()

    async def _publish(self, tag: int, message: Message, earlier: asyncio.Task[None] | None) -> None:
        """Publish, and call the listener with the outcome. A lost channel is reported by its end, for all publishes at once."""
        if earlier is not None:
            # aiormq matches a return by the message id alone, and could take one message for the other.
            await asyncio.wait([earlier])
        returned: DeliveryError | None = None
        with suppress(ConnectionLostError, AMQPError):
            try:
                with call_errors_as_loss(self._connection):
                    await self.channel.basic_publish(
                        message.body,
                        exchange=message.exchange,
                        routing_key=message.routing_key,
                        properties=_encodable(decode_properties(message.properties).to_pamqp()),
                        mandatory=message.mandatory,
                    )
            except DeliveryError as error:
                returned = error
            self._report(tag, message, returned)

    def _report(self, tag: int, message: Message, error: DeliveryError | None) -> None:
        listener = self._listener
        if listener is None:
            return
        if error is None:
            listener.acked(tag, multiple=False)
        elif isinstance(error.frame, spec.Basic.Return):
            listener.returned(error.frame, message.message_id)
            listener.acked(tag, multiple=False)
        else:
            listener.nacked(tag, multiple=False)

    def _on_publish_ended(self, message_id: str, task: asyncio.Task[None]) -> None:
        self._publishes.discard(task)
        if self._newest.get(message_id) is task:
            del self._newest[message_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    def _on_channel_closed(self, closing: asyncio.Future[Any]) -> None:
        closed_with = _closed_with(closing)
        if (
            self._listener is not None
            and closed_with is not None
            and closed_with[0] < _LOWEST_CONNECTION_ERROR
        ):
            self._listener.closed(*closed_with)


_LOWEST_CONNECTION_ERROR: Final = 500
"""From this reply code on, RabbitMQ closes the whole connection, whose end is reported; below it, mostly a channel."""


def _closed_with(closing: asyncio.Future[Any]) -> tuple[int, str] | None:
    """Code and text with which RabbitMQ closed a channel or a connection; None while it is open, or if we closed it."""
    if not closing.done() or closing.cancelled():
        return None
    match closing.exception():
        case (aiormq_errors.ChannelClosed() | aiormq_errors.ConnectionClosed()) as error:
            match error.args:
                case (int(code), text):
                    return code, str(text)
                case (str(text),):
                    return _CODES.get(type(error), 0), text
    return None


async def _report_alarms(
    connection: AbstractConnection, blocked: Callable[[str], None], unblocked: Callable[[], None]
) -> None:
    """Ask aiormq periodically whether RabbitMQ blocks the connection. It does not say for which alarm."""
    transport = aiormq_connection(connection)
    while True:
        try:
            async with asyncio.timeout(_ALARM_POLL_SECONDS):
                await transport.ready()
        except TimeoutError:
            blocked(_UNKNOWN_ALARM)
            await transport.ready()
            unblocked()
        await asyncio.sleep(_ALARM_POLL_SECONDS)


async def _wait_for(failure: asyncio.Future[None]) -> None:
    await asyncio.shield(failure)


def _delivery(message: DeliveredMessage) -> Delivery:
    head = message.delivery
    if not isinstance(head, spec.Basic.Deliver):
        raise TypeError(f"{head} is no basic.deliver")
    return Delivery(
        head.delivery_tag or 0,
        bool(head.redelivered),
        head.exchange or "",
        head.routing_key or "",
        _encoded(message.header.properties),
        bytes(message.body),
    )


def _encoded(properties: spec.Basic.Properties) -> bytes:
    """The properties, encoded again: the same values, perhaps in other types."""
    try:
        return properties.marshal()
    except _ENCODING_ERRORS:
        return _without_unencodable_headers(properties).marshal()


def _encodable(properties: spec.Basic.Properties) -> spec.Basic.Properties:
    """The properties without headers that pamqp cannot encode: aiormq does not expect an error in the middle of a publish."""
    try:
        properties.marshal()
    except _ENCODING_ERRORS:
        return _without_unencodable_headers(properties)
    return properties


_ENCODING_ERRORS: Final = (TypeError, ValueError, OverflowError, StructError)


def _without_unencodable_headers(properties: spec.Basic.Properties) -> spec.Basic.Properties:
    """Pamqp decodes some headers that it cannot encode, such as a number too large for the type that it chooses."""
    headers = properties.headers or {}
    properties.headers = {name: value for name, value in headers.items() if _is_encodable(name, value)}
    return properties


def _is_encodable(name: str, value: Any) -> bool:
    try:
        spec.Basic.Properties(headers={name: value}).marshal()
    except _ENCODING_ERRORS:
        return False
    return True
