"""The socket to RabbitMQ: confirms and deliveries are handled here as they arrive; aiormq reads all other frames.

For each frame aiormq reads three times from the stream, and passes it through two queues and two tasks: some 50 us. A
busy publisher gets thousands of confirms a second, of 21 bytes each, and has only to find the message of each. Here that
costs below 1 us. Handshake, TLS, heartbeats and every other frame stay with aiormq. Messages are decoded neither here nor
by aiormq: properties that pamqp cannot decode would end its reader, and the connection with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

import aio_pika
from aiormq import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp import commands as spec
from pamqp import frame
from pamqp.heartbeat import Heartbeat

from bridge.amqp.properties import decode_properties

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq import SSLContextProvider
    from yarl import URL

_FRAME_HEADER: Final = Struct(">BHI")
"""Every frame starts with type, channel, size. A payload of that size and one octet follow."""
_METHOD: Final = Struct(">I")
"""Class and method: the first fields of a method frame's payload."""
_SHORTEST_METHOD: Final = _FRAME_HEADER.size + _METHOD.size + 1
_CONFIRM: Final = Struct(">BHIIQBB")
"""A whole `basic.ack` or `basic.nack`: frame header, class and method, delivery tag, flags, the last octet."""

_METHOD_FRAME: Final = 1
_FRAME_TYPES: Final = frozenset({_METHOD_FRAME, 2, 3, 8})
"""Method, header, body, heartbeat: AMQP 0-9-1, 2.3.5."""
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_RETURN: Final = 60 << 16 | 50
_CLOSE: Final = 20 << 16 | 40
_CLOSE_CONNECTION: Final = 10 << 16 | 50
_CLOSE_REPLY: Final = Struct(">HB")
"""In `channel.close`, after class and method: the reply code, and the length of the text."""
_MULTIPLE: Final = 1
_HEADER_FRAME: Final = 2
_UINT64: Final = Struct(">Q")
_BODY_SIZE_AT: Final = _FRAME_HEADER.size + 4
"""Offset of the body size in a content header: after class and weight."""
_PROPERTIES_AT: Final = _BODY_SIZE_AT + _UINT64.size

_HEARTBEAT: Final = Heartbeat().marshal()
_FED_HEARTBEAT_SECONDS: Final = 1.0
"""aiormq expects frames as a sign of life. While all frames are handled here, it is fed a heartbeat so often."""


TRANSPORT_FACTORY: Final = "transport_factory"
"""Name of an argument of aiormq. aio-pika does not accept it, but passes on its `kwargs`."""

FrameHandler = Callable[[bytes, int, int, int], bool]
"""Called with received data, and the type, start and end of one whole frame in it; returns whether it handled it."""


class ConfirmListener(Protocol):
    """Receives confirms, nacks and returns of a channel. It must not raise: the socket calls it."""

    def acked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def returned(self, message: spec.Basic.Return, message_id: str) -> None: ...

    def closed(self, code: int, text: str) -> None:
        """RabbitMQ has closed the channel. Nothing more may be written on it."""


def wire_of(connection: AbstractConnection) -> Wire:
    """Raises TypeError: `aiormq_internals.make_connection` has not made this connection."""
    wire = connection.kwargs.get(TRANSPORT_FACTORY) if isinstance(connection, aio_pika.Connection) else None
    if not isinstance(wire, Wire):
        raise TypeError("the connection must come from open_connection")
    return wire


def broker_close(connection: AbstractConnection) -> tuple[int, str] | None:
    """Code and text with which RabbitMQ closed this connection; None if it did not, or it is not known."""
    wire = connection.kwargs.get(TRANSPORT_FACTORY) if isinstance(connection, aio_pika.Connection) else None
    return wire.closed_with if isinstance(wire, Wire) else None


class Wire(TransportFactory):
    """Opens the socket of one connection, and routes the frames of a channel to its listener or handler."""

    def __init__(self) -> None:
        self._stream: InterceptingStream | None = None
        self._transport: asyncio.WriteTransport | None = None

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Code and text with which RabbitMQ closed this connection, if it did."""
        return None if self._stream is None else self._stream.closed_with

    async def handler_failure(self) -> None:
        """Wait for ever, unless a listener or frame handler raises: then raise its error, which nobody else would see."""
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

    def listen(self, channel: int, listener: ConfirmListener) -> None:
        """Send confirms, nacks and returns of this channel to the listener, until `unroute`."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        self._stream.listen(channel, listener)

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
        self._handlers: dict[int, FrameHandler] = {0: self._note_connection_close}
        """Channel -> handler of its frames. Channel 0 is the connection's."""
        self.closed_with: tuple[int, str] | None = None
        self.failure: asyncio.Future[None] = loop.create_future()
        self._incomplete = b""
        self._fed_heartbeat_at = 0.0

    def listen(self, channel: int, listener: ConfirmListener) -> None:
        self.route(channel, _ConfirmHandler(listener).handle)

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
        handlers = self._handlers
        while len(data) - at >= _FRAME_HEADER.size:
            kind, channel, size = _FRAME_HEADER.unpack_from(data, at)
            if kind not in _FRAME_TYPES:
                at = len(data)  # not AMQP; aiormq reports it
                break
            end = at + _FRAME_HEADER.size + size + 1
            if end > len(data):
                break
            if (handle := handlers.get(channel)) is not None and handle(data, kind, at, end):
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

    def _note_connection_close(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Remember why RabbitMQ closes the connection, which aiormq does not always report. The frame stays with aiormq."""
        if kind == _METHOD_FRAME and end - at >= _SHORTEST_METHOD:
            (method,) = _METHOD.unpack_from(data, at + _FRAME_HEADER.size)
            if method == _CLOSE_CONNECTION:
                self.closed_with = _close_reply(data, at + _FRAME_HEADER.size + _METHOD.size, end)
        return False

    def _pass_on(self, data: bytes) -> None:
        if data:
            super().feed_data(data)

    def _feed_heartbeat(self) -> None:
        now = self._time()
        if now - self._fed_heartbeat_at > _FED_HEARTBEAT_SECONDS:
            self._fed_heartbeat_at = now
            self._pass_on(_HEARTBEAT)


class _ConfirmHandler:
    """Handles the confirms and returns of one channel, for its listener."""

    def __init__(self, listener: ConfirmListener) -> None:
        self._listener = listener
        self._returned: _ReturnedMessage | None = None

    def handle(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Handle a frame (a `FrameHandler`); returns whether it was for the listener."""
        if self._returned is not None:
            # RabbitMQ sends nothing else on the channel between a return and the end of its content.
            self._returned.add(data, kind, at, end)
        elif kind != _METHOD_FRAME or end - at < _SHORTEST_METHOD:
            return False
        elif (method := _METHOD.unpack_from(data, at + _FRAME_HEADER.size)[0]) == _RETURN:
            self._returned = _ReturnedMessage(data[at:end])
        elif method == _CLOSE:
            self._listener.closed(*_close_reply(data, at + _FRAME_HEADER.size + _METHOD.size, end))
            return False  # aiormq answers it
        else:
            return end - at == _CONFIRM.size and self._confirm(method, data, at)
        if self._returned.is_whole:
            self._listener.returned(self._returned.method, self._returned.message_id)
            self._returned = None
        return True

    def _confirm(self, method: int, data: bytes, at: int) -> bool:
        _, _, _, _, delivery_tag, flags, _ = _CONFIRM.unpack_from(data, at)
        if method == _ACK:
            self._listener.acked(delivery_tag, multiple=flags & _MULTIPLE == _MULTIPLE)
        elif method == _NACK:
            self._listener.nacked(delivery_tag, multiple=flags & _MULTIPLE == _MULTIPLE)
        else:
            return False
        return True


def _close_reply(data: bytes, at: int, end: int) -> tuple[int, str]:
    """Code and text with which RabbitMQ closes a channel or the connection."""
    code, length, text = 0, 0, at + _CLOSE_REPLY.size
    if text < end:
        code, length = _CLOSE_REPLY.unpack_from(data, at)
    return code, data[text : text + length].decode(errors="replace")


class _ReturnedMessage:
    """A returned message: the method, then the content header, then the body."""

    def __init__(self, frames: bytes) -> None:
        """Args: the method frame."""
        _, _, method = frame.unmarshal(frames)
        if not isinstance(method, spec.Basic.Return):
            raise TypeError(f"{method} is no basic.return")
        self.method = method
        self.message_id = ""
        self._missing: int | None = None

    @property
    def is_whole(self) -> bool:
        return self._missing == 0

    def add(self, data: bytes, kind: int, at: int, end: int) -> None:
        if kind == _HEADER_FRAME:
            self.message_id = decode_properties(data[at + _PROPERTIES_AT : end - 1]).message_id or ""
            (self._missing,) = _UINT64.unpack_from(data, at + _BODY_SIZE_AT)
        else:
            self._missing = (self._missing or 0) - (end - 1 - at - _FRAME_HEADER.size)
