"""A message as RabbitMQ reads it: one frame for the method, one for the properties, some for the body."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pamqp import commands as spec
from pamqp import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = Struct(">BHIHHQ")
"""Type 2, channel, size; then class, weight and the size of the body, before the properties: AMQP 0-9-1, 2.3.5.2."""
_HEADER_PAYLOAD: Final = 12
"""Bytes of it that count as payload."""
_PART: Final = Struct(">BHI")
"""Type 3, channel, size."""
_END: Final = b"\xce"
_BASIC: Final = 60
_MOST_METHODS: Final = 256
"""That are kept ready. Routing keys come from the provider, who may think of any number of them."""


class Message(NamedTuple):
    """What is to be published, and where; `composed` makes one."""

    exchange: str
    routing_key: str
    message_id: str
    """As in the properties; a return is matched by it."""
    properties: bytes
    """Encoded: the flags, then the values."""
    body: bytes
    happened_at: int | None = None
    """Of an event: the time that it bears, Unix seconds; its age is measured when it is confirmed."""
    mandatory: bool = True
    """Whether it must reach a queue. Without, a message that nobody has bound a queue for counts as published."""


def composed(
    exchange: str, routing_key: str, properties: spec.Basic.Properties, body: bytes, *, mandatory: bool = True
) -> Message:
    """A message with these properties."""
    message_id = properties.message_id or ""
    return Message(exchange, routing_key, message_id, properties.marshal(), body, mandatory=mandatory)


class Framing:
    """Cuts messages into the frames of one channel."""

    def __init__(self, channel: int, largest_body: int) -> None:
        """Args: the channel's number; how many bytes of a body fit into one frame."""
        self._channel = channel
        self._largest_body = largest_body
        self._methods: dict[tuple[str, str, bool], bytes] = {}

    def frames(self, message: Message) -> Sequence[bytes]:
        """All that is to be written for this message, in pieces."""
        exchange, routing_key, _, properties, body, _, mandatory = message
        method = self._methods.get((exchange, routing_key, mandatory)) or self._method(message)
        size = len(body)
        header = _HEADER.pack(2, self._channel, len(properties) + _HEADER_PAYLOAD, _BASIC, 0, size)
        if 0 < size <= self._largest_body:
            return method, header, properties, _END, _PART.pack(3, self._channel, size), body, _END
        return method, header, properties, _END, *self._parts(body)

    def _parts(self, body: bytes) -> list[bytes]:
        pieces = []
        for start in range(0, len(body), self._largest_body):
            part = body[start : start + self._largest_body]
            pieces += [_PART.pack(3, self._channel, len(part)), part, _END]
        return pieces

    def _method(self, message: Message) -> bytes:
        exchange, routing_key, _, _, _, _, mandatory = message
        publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        if len(self._methods) >= _MOST_METHODS:
            self._methods.clear()
        made = self._methods[exchange, routing_key, mandatory] = frame.marshal(publish, self._channel)
        return made
