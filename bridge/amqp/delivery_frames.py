"""Assembles deliveries from the frames at the socket, without a task or a queue in between.

aiormq never sees these frames: properties that pamqp cannot decode would end its reader, and the connection with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.frame_layout import (
    ARGUMENTS_AT,
    BODY_SIZE_AT,
    FRAME_HEADER,
    HEADER_FRAME,
    METHOD,
    METHOD_FRAME,
    PROPERTIES_AT,
    UINT64,
)
from bridge.amqp.message_types import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

_DELIVER: Final = 60 << 16 | 60


class DeliveryAssembler:
    """Assembles the deliveries of one channel from its frames."""

    def __init__(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Args: called with each delivery. It must not raise: the socket calls it."""
        self._on_delivery = on_delivery
        self._deliver: tuple[int, bool, str, str] | None = None
        self._properties = b""
        self._missing = 0
        self._parts: list[bytes] = []

    def handle(self, data: bytes, kind: int, at: int, end: int) -> bool:
        """Handle a frame (a `wire.FrameHandler`). Frames that are not part of a delivery are left to aiormq."""
        if kind == METHOD_FRAME:
            if METHOD.unpack_from(data, at + FRAME_HEADER.size)[0] != _DELIVER:
                return False
            self._deliver = _deliver_arguments(data, at + ARGUMENTS_AT)
        elif self._deliver is None:
            return False
        elif kind == HEADER_FRAME:
            (self._missing,) = UINT64.unpack_from(data, at + BODY_SIZE_AT)
            self._properties = data[at + PROPERTIES_AT : end - 1]
            if not self._missing:
                self._complete(self._deliver, b"")
        else:
            part = data[at + FRAME_HEADER.size : end - 1]
            self._missing -= len(part)
            if self._missing:
                self._parts.append(part)
            else:
                self._complete(self._deliver, part)
        return True

    def _complete(self, head: tuple[int, bool, str, str], part: bytes) -> None:
        if self._parts:
            part = b"".join((*self._parts, part))
            self._parts.clear()
        self._deliver = None
        self._on_delivery(Delivery(*head, self._properties, part))


def _deliver_arguments(data: bytes, at: int) -> tuple[int, bool, str, str]:
    """The arguments of `basic.deliver`: delivery tag, redelivered, exchange, routing key."""
    at += data[at] + 1
    (tag,) = UINT64.unpack_from(data, at)
    at += UINT64.size
    redelivered = bool(data[at] & 1)
    exchange_at = at + 1
    key_at = exchange_at + data[exchange_at] + 1
    exchange, key = data[exchange_at + 1 : key_at], data[key_at + 1 : key_at + 1 + data[key_at]]
    return tag, redelivered, _short_text(exchange), _short_text(key)


def _short_text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        # Not longer than before: it may have to fit into a short string again.
        return content.decode(errors="replace").encode()[: len(content)].decode(errors="ignore")
