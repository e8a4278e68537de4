"""Encodes a message to be published: a method frame, a content header frame, and body frames."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from pamqp import commands as spec
from pamqp import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.message_types import Message

_CONTENT_HEADER: Final = Struct(">BHIHHQ")
"""Type 2, channel, size; then class, weight and the size of the body, before the properties: AMQP 0-9-1, 2.3.5.2."""
_CONTENT_HEADER_PAYLOAD: Final = 12
"""Bytes of it that belong to the payload."""
_BODY_HEADER: Final = Struct(">BHI")
"""Type 3, channel, size."""
_FRAME_END: Final = b"\xce"
_BASIC_CLASS: Final = 60
_MAX_CACHED_METHODS: Final = 256
"""Encoded methods to cache. Routing keys come from the provider, so their number has no limit."""


class MessageFramer:
    """Encodes messages into the frames of one channel."""

    def __init__(self, channel: int, largest_body: int) -> None:
        """Args: the channel number; how many bytes of a body fit into one frame."""
        self._channel = channel
        self._largest_body = largest_body
        self._methods: dict[tuple[str, str, bool], bytes] = {}

    def frames(self, message: Message) -> Sequence[bytes]:
        """The encoded frames of this message, in pieces to be joined."""
        exchange, routing_key, _, properties, body, _, mandatory, _ = message
        method = self._methods.get((exchange, routing_key, mandatory)) or self._method(message)
        size = len(body)
        header = _CONTENT_HEADER.pack(
            2, self._channel, len(properties) + _CONTENT_HEADER_PAYLOAD, _BASIC_CLASS, 0, size
        )
        if 0 < size <= self._largest_body:
            return (
                method,
                header,
                properties,
                _FRAME_END,
                _BODY_HEADER.pack(3, self._channel, size),
                body,
                _FRAME_END,
            )
        return method, header, properties, _FRAME_END, *self._body_frames(body)

    def _body_frames(self, body: bytes) -> list[bytes]:
        pieces = []
        for start in range(0, len(body), self._largest_body):
            part = body[start : start + self._largest_body]
            pieces += [_BODY_HEADER.pack(3, self._channel, len(part)), part, _FRAME_END]
        return pieces

    def _method(self, message: Message) -> bytes:
        exchange, routing_key, _, _, _, _, mandatory, _ = message
        publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        if len(self._methods) >= _MAX_CACHED_METHODS:
            self._methods.clear()
        made = self._methods[exchange, routing_key, mandatory] = frame.marshal(publish, self._channel)
        return made
