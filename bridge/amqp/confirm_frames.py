"""Reads the confirms, nacks and returns of a channel from the frames at the socket."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from pamqp import commands as spec
from pamqp import frame

from bridge.amqp.frame_layout import (
    BODY_SIZE_AT,
    FRAME_HEADER,
    HEADER_FRAME,
    METHOD,
    METHOD_FRAME,
    PROPERTIES_AT,
    SHORTEST_METHOD,
    UINT64,
    close_reply,
)
from bridge.amqp.properties import decode_properties

if TYPE_CHECKING:
    from bridge.amqp.message_path import ConfirmListener

_CONFIRM: Final = Struct(">BHIIQBB")
"""A whole `basic.ack` or `basic.nack`: frame header, class and method, delivery tag, flags, the last octet."""
_MULTIPLE: Final = 1

_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_RETURN: Final = 60 << 16 | 50
_CLOSE: Final = 20 << 16 | 40


class ConfirmHandler:
    """Handles the confirms and returns of one channel, for its listener."""

    def __init__(self, listener: ConfirmListener) -> None:
        self._listener = listener
        self._returned: _ReturnedMessage | None = None

    def handle(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Handle a frame (a `FrameHandler`); returns whether it was for the listener."""
        if self._returned is not None:
            # RabbitMQ sends nothing else on the channel between a return and the end of its content.
            self._returned.add(data, kind, at, end)
        elif kind != METHOD_FRAME or end - at < SHORTEST_METHOD:
            return False
        elif (method := METHOD.unpack_from(data, at + FRAME_HEADER.size)[0]) == _RETURN:
            self._returned = _ReturnedMessage(data[at:end])
        elif method == _CLOSE:
            self._listener.closed(*close_reply(data, at, end))
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
        if kind == HEADER_FRAME:
            self.message_id = decode_properties(data[at + PROPERTIES_AT : end - 1]).message_id or ""
            (self._missing,) = UINT64.unpack_from(data, at + BODY_SIZE_AT)
        else:
            self._missing = (self._missing or 0) - (end - 1 - at - FRAME_HEADER.size)
