"""One message for people: its headers, its properties, and its body as JSON, as text or in hexadecimal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.amqp.properties import decode_properties
from bridge.dead_letters import message_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_SHOWN: Final = 64 * 1024
"""Bytes of a body."""
_MOST_HEX: Final = 4096
_MOST_VALUE: Final = 2000
"""Characters of a header."""
_MOST_LINES: Final = 5000
_HEX_COLUMNS: Final = 16
_PRINTABLE: Final = range(0x20, 0x7F)


@dataclass(frozen=True, slots=True)
class MessageView:
    """What a page shows of a message."""

    headers: list[tuple[str, str]]
    properties: list[tuple[str, str]]
    undecodable: str
    """Why not all of the properties can be shown; empty if they can."""
    kind: str
    """Of the body: `JSON`, `text` or `bytes`."""
    text: str
    """The body: indented, as it is, or in hexadecimal."""
    raw: str
    """As it came, where the above is indented."""
    size: int
    """Of the body, bytes."""
    shown: int
    """How many of them are shown."""


def message_view(properties: bytes, body: bytes) -> MessageView:
    """Of a message's encoded properties and its body, whatever they are."""
    decoded = decode_properties(properties)
    names = message_file.AMQP_NAMES
    values = {names.get(name, name): value for name, value in decoded.values.items()}
    kind, text, raw, shown = _body(body)
    return MessageView(
        headers=_texts(decoded.headers),
        properties=_texts(values),
        undecodable=decoded.error or "",
        kind=kind,
        text=text,
        raw=raw,
        size=len(body),
        shown=shown,
    )


def _texts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_shortened(name), _shortened(_text(value))) for name, value in sorted(values.items())]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(
            value, default=message_file.json_default, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
        ).decode()
    except orjson.JSONEncodeError:  # a number beyond 64 bits, or half of a character
        return repr(value)


def _shortened(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _MOST_VALUE else f"{text[:_MOST_VALUE]}… ({len(text):,} characters)"


def _body(body: bytes) -> tuple[str, str, str, int]:
    """Kind, text, raw text, and how many bytes are shown."""
    part = body[:MOST_SHOWN]
    try:
        text = part.decode()
    except UnicodeDecodeError as error:
        if len(body) == len(part) or error.end < len(part) - 4:
            return "bytes", "\n".join(_hex(body[:_MOST_HEX])), "", min(len(body), _MOST_HEX)
        text = part[: error.start].decode()  # a character is cut in two
    if len(body) > len(part):
        return "text", text, "", len(part)
    indented = _indented(text)
    if indented is None:
        return "text", text, "", len(body)
    return "JSON", indented, text if indented != text else "", len(body)


def _indented(text: str) -> str | None:
    """JSON with a line for each member; None if it is none, or becomes very long."""
    try:
        indented = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    short = indented.count("\n") <= _MOST_LINES and len(indented) <= 4 * MOST_SHOWN
    return indented.encode(errors="replace").decode() if short else None


def _hex(content: bytes) -> Iterator[str]:
    for at in range(0, len(content), _HEX_COLUMNS):
        row = content[at : at + _HEX_COLUMNS]
        text = "".join(chr(one) if one in _PRINTABLE else "." for one in row)
        yield f"{at:06x}  {row.hex(' '):<{3 * _HEX_COLUMNS}} {text}"
