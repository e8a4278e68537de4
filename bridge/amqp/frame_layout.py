"""Positions of the fields in a frame that is read at the socket: AMQP 0-9-1, 2.3.5."""

from __future__ import annotations

from struct import Struct
from typing import Final

FRAME_HEADER: Final = Struct(">BHI")
"""Every frame starts with type, channel, size. A payload of that size and one octet follow."""
METHOD: Final = Struct(">I")
"""Class and method: the first fields of a method frame's payload."""
ARGUMENTS_AT: Final = FRAME_HEADER.size + METHOD.size
"""Offset of a method's arguments."""
SHORTEST_METHOD: Final = ARGUMENTS_AT + 1

METHOD_FRAME: Final = 1
HEADER_FRAME: Final = 2
FRAME_TYPES: Final = frozenset({METHOD_FRAME, HEADER_FRAME, 3, 8})
"""Method, header, body, heartbeat."""

UINT64: Final = Struct(">Q")
BODY_SIZE_AT: Final = FRAME_HEADER.size + 4
"""Offset of the body size in a content header: after class and weight."""
PROPERTIES_AT: Final = BODY_SIZE_AT + UINT64.size
"""Offset of the properties in a content header."""

_CLOSE_REPLY: Final = Struct(">HB")
"""In `channel.close` and `connection.close`, after class and method: the reply code, and the length of the text."""


def close_reply(data: bytes, at: int, end: int) -> tuple[int, str]:
    """Code and text with which RabbitMQ closes a channel or the connection.

    Args:
        data: with the whole frame in it.
        at: where the frame starts.
        end: where it ends.
    """
    code, length, text = 0, 0, at + ARGUMENTS_AT + _CLOSE_REPLY.size
    if text < end:
        code, length = _CLOSE_REPLY.unpack_from(data, at + ARGUMENTS_AT)
    return code, data[text : text + length].decode(errors="replace")
