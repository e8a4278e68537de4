"""The socket to RabbitMQ: frames with a handler are handled as they arrive; aiormq reads all others.

For each frame aiormq reads three times from the stream, and passes it through two queues and two tasks: some 50 us. A
busy publisher gets thousands of confirms a second, of 21 bytes each, and has only to find the message of each. Here that
costs below 1 us. Handshake, TLS, heartbeats and every other frame stay with aiormq. Messages are decoded neither here nor
by aiormq: properties that pamqp cannot decode would end its reader, and the connection with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import aio_pika
from aiormq import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp.heartbeat import Heartbeat

from bridge.amqp.frame_layout import (
    ARGUMENTS_AT,
    FRAME_HEADER,
    FRAME_TYPES,
    METHOD,
    METHOD_FRAME,
    SHORTEST_METHOD,
    close_reply,
)

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq import SSLContextProvider
    from yarl import URL

_FRAME_HEADER_SIZE: Final = FRAME_HEADER.size
_CLOSE_CONNECTION: Final = 10 << 16 | 50
_BLOCKED: Final = 10 << 16 | 60
_UNBLOCKED: Final = 10 << 16 | 61
_HEARTBEAT: Final = Heartbeat().marshal()
_FED_HEARTBEAT_SECONDS: Final = 1.0
"""aiormq expects frames as a sign of life. While all frames are handled here, it is fed a heartbeat in this interval."""


TRANSPORT_FACTORY: Final = "transport_factory"
"""Name of an argument of aiormq. aio-pika does not accept it, but passes on its `kwargs`."""

FrameHandler = Callable[[bytes, int, int, int], bool]
"""Called with received data, and the type, start and end of one whole frame in it; returns whether it handled it."""


def wire_of(connection: AbstractConnection) -> Wire:
    """Raises TypeError: `aiormq_internals.make_fast_connection` has not made this connection."""
    wire = connection.kwargs.get(TRANSPORT_FACTORY) if isinstance(connection, aio_pika.Connection) else None
    if not isinstance(wire, Wire):
        raise TypeError("the connection must come from open_connection")
    return wire


class Wire(TransportFactory):
    """Opens the socket of one connection, and routes the frames of a channel to its handler."""

    def __init__(self) -> None:
        self._stream: InterceptingStream | None = None
        self._transport: asyncio.WriteTransport | None = None

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Code and text with which RabbitMQ closed this connection, if it did."""
        return None if self._stream is None else self._stream.closed_with

    def watch_alarms(self, *, blocked: Callable[[str], None], unblocked: Callable[[], None]) -> None:
        """Call these at `connection.blocked` and `connection.unblocked`, which aiormq only logs."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        self._stream.blocked, self._stream.unblocked = blocked, unblocked

    async def handler_failure(self) -> None:
        """Wait for ever, unless a frame handler raises: then raise its error, which nobody else would see."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        await asyncio.shield(self._stream.failure)

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As aiormq's own factories, but with an `InterceptingStream`.

        Raises:
            AMQPConnectionError: the broker cannot be reached.
        """
        loop = asyncio.get_running_loop()
        ssl_contexts: SSLContextProvider = options.pop("ssl_context_provider")
        ssl = await ssl_contexts.get_context() if url.scheme == "amqps" else None
        stream = InterceptingStream(loop)
        protocol = asyncio.StreamReaderProtocol(stream, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=ssl, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self._stream, self._transport = stream, transport
        return stream, asyncio.StreamWriter(transport, protocol, stream, loop)

    def route(self, channel: int, handler: FrameHandler) -> None:
        """Send the frames of this channel to the handler, until `unroute`."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        self._stream.route(channel, handler)

    def unroute(self, channel: int) -> None:
        """Leave the frames of this channel number, which may be reused, to aiormq."""
        if self._stream is not None:
            self._stream.unroute(channel)

    def abort(self) -> None:
        """Close at once, without sending what is buffered."""
        if self._transport is not None:
            self._transport.abort()

    def write(self, frames: bytes) -> None:
        """Send whole frames. On a connection that is closing they are lost, like everything in flight."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames)


class InterceptingStream(asyncio.StreamReader):
    """The stream that aiormq reads. Frames are passed on whole, so that routing may start between any two of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._time = loop.time
        self._handlers: dict[int, FrameHandler] = {0: self._handle_connection_frame}
        """Channel -> handler of its frames. Channel 0 is the connection's."""
        self.closed_with: tuple[int, str] | None = None
        self.blocked: Callable[[str], None] = _ignore
        self.unblocked: Callable[[], None] = _ignore
        self.failure: asyncio.Future[None] = loop.create_future()
        self._incomplete = b""
        self._fed_heartbeat_at = 0.0

    def route(self, channel: int, handler: FrameHandler) -> None:
        self._handlers[channel] = handler

    def unroute(self, channel: int) -> None:
        self._handlers.pop(channel, None)

    def feed_data(self, data: Any) -> None:
        if self.failure.done():
            return
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001 -- the loop would take it for a lost connection: see `Wire.handler_failure`
            self.failure.set_exception(error)

    def _feed(self, data: Any) -> None:
        if self._incomplete:
            data = self._incomplete + data
        begin = at = 0
        length, frame_header = len(data), FRAME_HEADER.unpack_from
        handler_of = self._handlers.get
        while length - at >= _FRAME_HEADER_SIZE:
            kind, channel, size = frame_header(data, at)
            if kind not in FRAME_TYPES:
                at = length  # not AMQP; aiormq reports it
                break
            end = at + _FRAME_HEADER_SIZE + size + 1
            if end > length:
                break
            if (handle := handler_of(channel)) is not None and handle(data, kind, at, end):
                if begin < at:
                    self._pass_on(data[begin:at])
                begin = end
            at = end
        self._pass_on(data[begin:at])
        self._incomplete = data[at:]
        if begin:
            self._feed_heartbeat()

    def feed_eof(self) -> None:
        self._pass_on(self._incomplete)
        self._incomplete = b""
        super().feed_eof()

    def _handle_connection_frame(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Report alarms, and remember why RabbitMQ closes the connection. The frame stays with aiormq.

        aiormq only logs the former, and does not always report the latter.
        """
        if kind == METHOD_FRAME and end - at >= SHORTEST_METHOD:
            (method,) = METHOD.unpack_from(data, at + FRAME_HEADER.size)
            if method == _CLOSE_CONNECTION:
                self.closed_with = close_reply(data, at, end)
            elif method == _BLOCKED:
                self.blocked(data[at + ARGUMENTS_AT + 1 : end - 1].decode(errors="replace"))
            elif method == _UNBLOCKED:
                self.unblocked()
        return False

    def _pass_on(self, data: bytes) -> None:
        if data:
            super().feed_data(data)

    def _feed_heartbeat(self) -> None:
        now = self._time()
        if now - self._fed_heartbeat_at > _FED_HEARTBEAT_SECONDS:
            self._fed_heartbeat_at = now
            self._pass_on(_HEARTBEAT)


def _ignore(_: str = "") -> None:
    """Nobody watches alarms yet."""
