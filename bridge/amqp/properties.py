"""Decodes message properties that may be invalid: what is valid is decoded, the rest is reported and skipped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pamqp import commands as spec

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = "headers"
FIELDS: Final = tuple(spec.Basic.Properties.__slots__)
"""pamqp's names, in the order of encoding: AMQP 0-9-1, 4.2.6.1."""
FLAGS: Final[Mapping[str, int]] = MappingProxyType(
    {name: spec.Basic.Properties.flags[name] for name in FIELDS}
)

_TYPES: Final = {name: spec.Basic.Properties.amqp_type(name) for name in FIELDS}
_FLAGS: Final = Struct(">H")
_MORE_FLAGS: Final = 1
_LENGTH: Final = Struct(">I")
_TIME: Final = Struct(">Q")
_DECIMAL: Final = Struct(">Bi")
_LARGEST_SECONDS: Final = 0xFFFFFFFF
"""Larger values are milliseconds, as in pamqp. As seconds this is the year 2106."""
_MAX_DEPTH: Final = 32
"""Nesting of tables and arrays. Deeper nesting is an attack."""
_NUMBERS: Final = {
    ord(tag): Struct(form)
    for tag, form in {
        "t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
        "f": ">f", "d": ">d",
    }.items()
}  # fmt: skip
"""By type tag in a table, as in RabbitMQ's errata."""
_BYTES, _TEXT, _ARRAY, _TABLE, _TIMESTAMP, _DECIMAL_TAG = b"xSAFTD"
_LENGTH_PREFIXED: Final = frozenset((_BYTES, _TEXT, _ARRAY, _TABLE))
"""Types whose value is preceded by its length."""
_VOID: Final = frozenset(b"V\x00")


class _UnreadableError(ValueError):
    """A field that cannot be decoded; the message says why."""


class HeaderEntry(NamedTuple):
    """A valid header."""

    name: str
    value: Any
    raw: bytes
    """Name and value, encoded."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What could be decoded of a message's properties."""

    values: Mapping[str, Any]
    """The properties by name (`FIELDS`), without the headers."""
    raw: Mapping[str, bytes]
    """The same, encoded."""
    entries: tuple[HeaderEntry, ...]
    """The headers, in the order of the message."""
    error: str | None
    """The first field that could not be decoded, and why; None where all could."""

    @property
    def headers(self) -> dict[str, Any]:
        return {entry.name: entry.value for entry in self.entries}

    @property
    def message_id(self) -> str | None:
        """None if it is missing or empty."""
        return self.values.get("message_id") or None

    def to_pamqp(self) -> spec.Basic.Properties:
        """As an object of pamqp."""
        made = spec.Basic.Properties()
        for name, value in self.values.items():
            setattr(made, name, value)
        if self.entries:
            made.headers = self.headers
        return made


def decode_properties(properties: bytes) -> Properties:
    """Decode properties: the flags, then the values. It never raises, whatever the bytes are.

    RabbitMQ accepts what pamqp cannot decode: a time after the year 9999, a name or a short string that is not UTF-8,
    deeply nested tables.
    """
    values: dict[str, Any] = {}
    raw: dict[str, bytes] = {}
    entries: list[HeaderEntry] = []
    error: str | None = None
    try:
        flags, at = _flags(properties)
        for name in FIELDS:
            if not flags & FLAGS[name]:
                continue
            begin, at = at, _end_of_field(name, properties, at)
            try:
                if name == HEADERS:
                    _decode_entries(properties, begin + _LENGTH.size, at, entries)
                else:
                    values[name] = _field(name, properties, begin, at)
                    raw[name] = properties[begin:at]
            except _UnreadableError as unreadable:
                error = error or f"{name}: {unreadable}"
    except _UnreadableError as unreadable:
        error = error or str(unreadable)
    return Properties(values, raw, tuple(entries), error)


def _flags(data: bytes) -> tuple[int, int]:
    """The flags, and the offset of the values. More words of flags may follow; they have no meaning today."""
    at, found, word = 0, 0, _MORE_FLAGS
    while word & _MORE_FLAGS:
        if at + _FLAGS.size > len(data):
            raise _UnreadableError("the flags are cut off")
        (word,) = _FLAGS.unpack_from(data, at)
        found = found or word
        at += _FLAGS.size
    return found, at


def _end_of_field(name: str, data: bytes, at: int) -> int:
    match _TYPES[name]:
        case "octet":
            end = at + 1
        case "timestamp":
            end = at + _TIME.size
        case "table":
            end = at + _LENGTH.size + _length(data, at, len(data))
        case _:
            end = at + 1 + (data[at] if at < len(data) else 0)
    if end > len(data):
        raise _UnreadableError(f"{name}: it is cut off")
    return end


def _field(name: str, data: bytes, at: int, end: int) -> Any:
    match _TYPES[name]:
        case "octet":
            return data[at]
        case "timestamp":
            return _time(data, at)
        case _:
            return _utf_8(data[at + 1 : end])


def _decode_entries(data: bytes, at: int, end: int, entries: list[HeaderEntry]) -> None:
    """Decode the entries of a table. Entries after an invalid one are decoded too, where they can be located.

    Raises:
        _UnreadableError: the first invalid entry, after all others were added to `entries`.
    """
    first: _UnreadableError | None = None
    while at < end:
        begin = at
        try:
            name, at = _name(data, begin, end)
            value, at = _value(data, at, end, 0)
            entries.append(HeaderEntry(name, value, data[begin:at]))
        except _UnreadableError as unreadable:
            first = first or unreadable
            try:
                at = _end_of_value(data, _end_of_name(data, begin, end), end)
            except _UnreadableError:
                break
    if first is not None:
        raise first


def _value(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """The value that starts here with its type tag, and the offset behind it."""
    tag, begin, at = data[at : at + 1], at + 1, _end_of_value(data, at, end)
    kind = tag[0]
    if (number := _NUMBERS.get(kind)) is not None:
        return number.unpack_from(data, begin)[0], at
    if kind in _LENGTH_PREFIXED:
        return _length_prefixed(kind, data, begin + _LENGTH.size, at, depth), at
    if kind == _TIMESTAMP:
        return _time(data, begin), at
    if kind == _DECIMAL_TAG:
        decimals, digits = _DECIMAL.unpack_from(data, begin)
        return Decimal(digits) * (Decimal(10) ** -decimals), at
    return None, at


def _length_prefixed(kind: int, data: bytes, at: int, end: int, depth: int) -> Any:
    if kind == _TEXT:
        content = data[at:end]
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content  # as in pamqp: a long string may contain any bytes
    if kind == _BYTES:
        return bytearray(data[at:end])
    if depth >= _MAX_DEPTH:
        raise _UnreadableError("tables and arrays are nested too deeply")
    return (_array if kind == _ARRAY else _table)(data, at, end, depth + 1)


def _array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    found = []
    while at < end:
        value, at = _value(data, at, end, depth)
        found.append(value)
    return found


def _table(data: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    found = {}
    while at < end:
        name, at = _name(data, at, end)
        found[name], at = _value(data, at, end, depth)
    return found


def _name(data: bytes, at: int, end: int) -> tuple[str, int]:
    end_of_name = _end_of_name(data, at, end)
    return _utf_8(data[at + 1 : end_of_name]), end_of_name


def _end_of_name(data: bytes, at: int, end: int) -> int:
    end_of_name = at + 1 + data[at]
    if end_of_name > end:
        raise _UnreadableError("a header's name is cut off")
    return end_of_name


def _end_of_value(data: bytes, at: int, end: int) -> int:
    if at >= end:
        raise _UnreadableError("a header has no value")
    kind, at = data[at], at + 1
    if (number := _NUMBERS.get(kind)) is not None:
        at += number.size
    elif kind in _LENGTH_PREFIXED:
        at += _LENGTH.size + _length(data, at, end)
    elif kind == _TIMESTAMP:
        at += _TIME.size
    elif kind == _DECIMAL_TAG:
        at += _DECIMAL.size
    elif kind not in _VOID:
        raise _UnreadableError(f"a header is of the unknown type {bytes((kind,))!r}")
    if at > end:
        raise _UnreadableError("a header's value is cut off")
    return at


def _length(data: bytes, at: int, end: int) -> int:
    if at + _LENGTH.size > end:
        raise _UnreadableError("a length is cut off")
    return int(_LENGTH.unpack_from(data, at)[0])


def _time(data: bytes, at: int) -> datetime:
    (seconds,) = _TIME.unpack_from(data, at)
    if seconds > _LARGEST_SECONDS:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise _UnreadableError("a time is out of range") from None


def _utf_8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _UnreadableError(f"a text is not UTF-8: {content[:32]!r}") from None
