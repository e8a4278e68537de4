"""The socket to RabbitMQ: confirms and deliveries are taken off it as they arrive; aiormq reads what is left.

aiormq reads three times from the stream for each frame, and hands it through two queues and two tasks: some 50 us. A
busy publisher gets thousands of confirms a second, 21 bytes each, and all that is to be done is to find the request
that waits. Here it costs below 1 us. Handshake, TLS, heartbeats and every other frame stay aiormq's. Nothing of a
message is decoded here, nor by aiormq, whose reader ends with the connection at properties that pamqp cannot decode.
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

from bridge.amqp.properties import read

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq import SSLContextProvider
    from yarl import URL

_HEAD: Final = Struct(">BHI")
"""Of any frame: type, channel, size. A payload of that size and one octet follow."""
_METHOD: Final = Struct(">I")
"""Class and method, the first of a method frame's payload."""
_SHORTEST_METHOD: Final = _HEAD.size + _METHOD.size + 1
_CONFIRM: Final = Struct(">BHIIQBB")
"""A whole `basic.ack` or `basic.nack`: head, class and method, delivery tag, flags, the closing octet."""

_METHOD_FRAME: Final = 1
_FRAME_TYPES: Final = frozenset({_METHOD_FRAME, 2, 3, 8})
"""Method, header, body, heartbeat: AMQP 0-9-1, 2.3.5."""
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_RETURN: Final = 60 << 16 | 50
_CLOSE: Final = 20 << 16 | 40
_CLOSE_CONNECTION: Final = 10 << 16 | 50
_REPLY: Final = Struct(">HB")
"""Of a `channel.close`, behind class and method: the code, and the length of the text."""
_MULTIPLE: Final = 1
_HEADER_FRAME: Final = 2
_LONG: Final = Struct(">Q")
_SIZE: Final = _HEAD.size + 4
"""Where a content header has the size of the body: behind class and weight."""
_PROPERTIES: Final = _SIZE + _LONG.size

_HEARTBEAT: Final = Heartbeat().marshal()
_SIGN_OF_LIFE_SECONDS: Final = 1.0
"""How often aiormq, which counts the frames it reads, is told that the broker lives while all it sends is taken."""


FACTORY: Final = "transport_factory"
"""aiormq takes one; aio-pika drops it from its arguments, but passes on what stands in `kwargs`."""

Taker = Callable[[bytes, int, int, int], bool]
"""Is handed what was read, and a whole frame's type, begin and end in it; says whether it has taken the frame."""


class Confirmations(Protocol):
    """Whoever wants to hear what RabbitMQ says of each publish. It must not raise: it is called by the socket."""

    def acked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None: ...

    def returned(self, message: spec.Basic.Return, message_id: str) -> None: ...

    def closed(self, code: int, text: str) -> None:
        """RabbitMQ has closed the channel: from now on nothing may be written on it."""


def wire_of(connection: AbstractConnection) -> Wire:
    """Raises TypeError: it is a connection that `internals.on_our_wire` has not made."""
    wire = connection.kwargs.get(FACTORY) if isinstance(connection, aio_pika.Connection) else None
    if not isinstance(wire, Wire):
        raise TypeError("the connection must come from open_connection")
    return wire


def closed_with(connection: AbstractConnection) -> tuple[int, str] | None:
    """Code and text with which RabbitMQ closed this connection, if it did, as far as we know."""
    wire = connection.kwargs.get(FACTORY) if isinstance(connection, aio_pika.Connection) else None
    return wire.closed_with if isinstance(wire, Wire) else None


class Wire(TransportFactory):
    """Opens the socket of one connection. What comes on a channel goes to who listens to it or takes its frames."""

    def __init__(self) -> None:
        self._stream: _Stream | None = None
        self._transport: asyncio.WriteTransport | None = None

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Code and text with which RabbitMQ closed this connection, if it did."""
        return None if self._stream is None else self._stream.closed_with

    async def mistake(self) -> None:
        """Wait for ever; raises what one who takes frames, or listens, has raised: nobody else would hear of it."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        await asyncio.shield(self._stream.mistake)

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As aiormq's own factories, with a stream of ours.

        Raises:
            AMQPConnectionError: the broker cannot be reached.
        """
        loop = asyncio.get_running_loop()
        secrets: SSLContextProvider = options.pop("ssl_context_provider")
        ssl = await secrets.get_context() if url.scheme == "amqps" else None
        stream = _Stream(loop)
        protocol = asyncio.StreamReaderProtocol(stream, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=ssl, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self._stream, self._transport = stream, transport
        return stream, asyncio.StreamWriter(transport, protocol, stream, loop)

    def listen(self, channel: int, listener: Confirmations) -> None:
        """Hear what RabbitMQ says of the publishes on this channel, until `hand_back`."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        self._stream.listen(channel, listener)

    def hand_to(self, channel: int, taker: Taker) -> None:
        """Hand the frames of this channel to whoever takes them, until `hand_back`."""
        if self._stream is None:
            raise RuntimeError("the connection to RabbitMQ was never opened")
        self._stream.hand_to(channel, taker)

    def hand_back(self, channel: int) -> None:
        """Leave the frames of this channel, whose number may be used again, to aiormq."""
        if self._stream is not None:
            self._stream.hand_back(channel)

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        if self._transport is not None:
            self._transport.abort()

    def write(self, frames: bytes) -> None:
        """Send whole frames at once. On a connection that is closing they go nowhere, like all that is in flight."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames)


class _Stream(asyncio.StreamReader):
    """What aiormq reads. Frames are passed on whole, so that listening may begin between any two of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._time = loop.time
        self._takers: dict[int, Taker] = {0: self._look_for_the_end}
        """Channel -> who takes its frames. On channel 0 RabbitMQ speaks of the connection."""
        self.closed_with: tuple[int, str] | None = None
        self.mistake: asyncio.Future[None] = loop.create_future()
        self._incomplete = b""
        self._told_alive_at = 0.0

    def listen(self, channel: int, listener: Confirmations) -> None:
        self.hand_to(channel, _Listening(listener).take)

    def hand_to(self, channel: int, taker: Taker) -> None:
        self._takers[channel] = taker

    def hand_back(self, channel: int) -> None:
        self._takers.pop(channel, None)

    def feed_data(self, data: Any) -> None:
        if self.mistake.done():
            return
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001 -- the loop would take it for a lost connection: see `Wire.mistake`
            self.mistake.set_exception(error)

    def _feed(self, data: Any) -> None:
        if self._incomplete:
            data = self._incomplete + data
        begin = at = 0
        takers = self._takers
        while len(data) - at >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(data, at)
            if kind not in _FRAME_TYPES:
                at = len(data)  # no AMQP; aiormq finds the words for it
                break
            end = at + _HEAD.size + size + 1
            if end > len(data):
                break
            if (take := takers.get(channel)) is not None and take(data, kind, at, end):
                self._pass_on(data[begin:at])
                begin = end
            at = end
        self._pass_on(data[begin:at])
        self._incomplete = data[at:]
        if begin:
            self._tell_alive()

    def feed_eof(self) -> None:
        self._pass_on(self._incomplete)
        self._incomplete = b""
        super().feed_eof()

    def _look_for_the_end(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Take nothing, and remember why RabbitMQ closes the connection, for which aiormq does not always find words."""
        if kind == _METHOD_FRAME and end - at >= _SHORTEST_METHOD:
            (method,) = _METHOD.unpack_from(data, at + _HEAD.size)
            if method == _CLOSE_CONNECTION:
                self.closed_with = _reply(data, at + _HEAD.size + _METHOD.size, end)
        return False

    def _pass_on(self, data: bytes) -> None:
        if data:
            super().feed_data(data)

    def _tell_alive(self) -> None:
        now = self._time()
        if now - self._told_alive_at > _SIGN_OF_LIFE_SECONDS:
            self._told_alive_at = now
            self._pass_on(_HEARTBEAT)


class _Listening:
    """Takes the confirms and returns of one channel, for its listener."""

    def __init__(self, listener: Confirmations) -> None:
        self._listener = listener
        self._returned: _Returned | None = None

    def take(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Whether this frame was for the listener."""
        if self._returned is not None:
            # Between a return and the end of its content RabbitMQ sends nothing else on the channel.
            self._returned.add(data, kind, at, end)
        elif kind != _METHOD_FRAME or end - at < _SHORTEST_METHOD:
            return False
        elif (method := _METHOD.unpack_from(data, at + _HEAD.size)[0]) == _RETURN:
            self._returned = _Returned(data[at:end])
        elif method == _CLOSE:
            self._listener.closed(*_reply(data, at + _HEAD.size + _METHOD.size, end))
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


def _reply(data: bytes, at: int, end: int) -> tuple[int, str]:
    """Code and text with which RabbitMQ closes a channel, or the connection."""
    code, length, text = 0, 0, at + _REPLY.size
    if text < end:
        code, length = _REPLY.unpack_from(data, at)
    return code, data[text : text + length].decode(errors="replace")


class _Returned:
    """A message on its way back: the method, then the header, then what there is of the body."""

    def __init__(self, frames: bytes) -> None:
        """Args: the method's frame."""
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
            self.message_id = read(data[at + _PROPERTIES : end - 1]).message_id or ""
            (self._missing,) = _LONG.unpack_from(data, at + _SIZE)
        else:
            self._missing = (self._missing or 0) - (end - 1 - at - _HEAD.size)
