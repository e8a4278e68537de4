"""One header of encoded properties, read without the others."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from bridge.amqp.properties import read

_LONG: Final = Struct(">q")
_LENGTH: Final = Struct(">I")


class Header:
    """One header, by name. A value of another type than is asked for counts as none.

    The name is searched for with its length in front, a control character, which no text of the bridge holds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = bytes((len(name),)) + name.encode()

    def number(self, properties: bytes) -> int | None:
        """An integer. RabbitMQ and pamqp write those of 64 bits as `l`; smaller ones are read the long way."""
        at = self._place(properties, b"l")
        if at is not None and at + _LONG.size <= len(properties):
            return int(_LONG.unpack_from(properties, at)[0])
        value = self._decoded(properties)
        return value if isinstance(value, int) else None

    def text(self, properties: bytes) -> str | None:
        at = self._place(properties, b"S")
        if at is not None and at + _LENGTH.size <= len(properties):
            begin = at + _LENGTH.size
            return properties[begin : begin + _LENGTH.unpack_from(properties, at)[0]].decode(errors="replace")
        value = self._decoded(properties)
        return value if isinstance(value, str) else None

    def _place(self, properties: bytes, kind: bytes) -> int | None:
        """Where a value of this kind begins. A name that is there twice may be part of somebody's text."""
        at = properties.find(self._key)
        if at < 0 or properties.rfind(self._key) != at:
            return None
        at += len(self._key)
        return at + 1 if properties[at : at + 1] == kind else None

    def _decoded(self, properties: bytes) -> Any:
        return read(properties).headers.get(self.name)
