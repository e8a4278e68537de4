"""Reads one header of encoded properties without decoding the others."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from bridge.amqp.properties import decode_properties

_LONG: Final = Struct(">q")
_LENGTH: Final = Struct(">I")


class EncodedHeader:
    """One header, by name. A value of another type than asked for counts as missing.

    It searches for the name with its length in front: a control character, which no text of the bridge contains.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = bytes((len(name),)) + name.encode()

    def number(self, properties: bytes) -> int | None:
        """An integer. RabbitMQ and pamqp write 64-bit integers as `l`; for smaller ones all headers are decoded."""
        at = self._offset(properties, b"l")
        if at is not None and at + _LONG.size <= len(properties):
            return int(_LONG.unpack_from(properties, at)[0])
        value = self._decoded(properties)
        return value if isinstance(value, int) else None

    def text(self, properties: bytes) -> str | None:
        at = self._offset(properties, b"S")
        if at is not None and at + _LENGTH.size <= len(properties):
            begin = at + _LENGTH.size
            return properties[begin : begin + _LENGTH.unpack_from(properties, at)[0]].decode(errors="replace")
        value = self._decoded(properties)
        return value if isinstance(value, str) else None

    def _offset(self, properties: bytes, kind: bytes) -> int | None:
        """Offset of the value, if it is of this kind. A name that occurs twice may be part of a text."""
        at = properties.find(self._key)
        if at < 0 or properties.rfind(self._key) != at:
            return None
        at += len(self._key)
        return at + 1 if properties[at : at + 1] == kind else None

    def _decoded(self, properties: bytes) -> Any:
        return decode_properties(properties).headers.get(self.name)
