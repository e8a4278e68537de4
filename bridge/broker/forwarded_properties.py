"""Properties of a message that goes on: what it came with, byte for byte, and what we add to it."""

from __future__ import annotations

import uuid
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from pamqp import encode

from bridge.amqp.properties import FIELDS, FLAGS, HEADERS, read
from bridge.broker.messages import PERSISTENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.amqp.properties import Properties

RAW_HEADER: Final = "undecodable-properties"
"""A byte array: all properties that a message came with, as they stood on the wire, where not all could be decoded."""
LEFT_OUT_HEADER: Final = "left-out-headers"
"""How many headers were left out because they do not fit into one frame; the largest go first."""

ROUTING: Final = ("CC", "BCC")
"""Headers that route a message to other queues as well."""

_KEPT: Final = ("content_type", "content_encoding", "timestamp", "message_type", "app_id")
_DELIVERY_MODE: Final = "delivery_mode"
_MESSAGE_ID: Final = "message_id"
_FLAGS: Final = Struct(">H")
_LENGTH: Final = Struct(">I")
_LARGEST: Final = 120_000
"""Bytes of the headers. All properties stand in one frame, and RabbitMQ's frames hold 128 KiB."""


def rewritten(
    properties: bytes,
    *,
    headers: Mapping[str, Any],
    without: Callable[[str], bool],
    known: Properties | None = None,
) -> tuple[str, bytes]:
    """Persistent, with an id, and such that anybody can decode it: what could not be read goes along in `RAW_HEADER`.

    Args:
        properties: encoded, as the message came in.
        headers: what is added, or replaced, in its headers.
        without: says by name which headers are left out.
        known: what `read` says of these properties, where it has been asked before.

    Returns:
        Its id, by which a return is told from a confirm, and the encoded properties.
    """
    found = known or read(properties)
    added, raw = dict(headers), b""
    if found.error is not None:
        added.pop(RAW_HEADER, None)
        raw = _encoded({RAW_HEADER: bytearray(properties)})
    kept = [
        entry.raw
        for entry in found.entries
        if entry.name not in added and not (raw and entry.name == RAW_HEADER) and not without(entry.name)
    ]
    message_id = found.message_id or uuid.uuid4().hex
    fields = {name: found.raw[name] for name in _KEPT if name in found.raw}
    fields["delivery_mode"] = encode.octet(PERSISTENT)
    fields["message_id"] = encode.short_string(message_id)
    fields[HEADERS] = _table(kept, raw, added)
    flags = 0
    for name in fields:
        flags |= FLAGS[name]
    return message_id, _FLAGS.pack(flags) + b"".join(fields[name] for name in FIELDS if name in fields)


def _table(kept: list[bytes], raw: bytes, added: dict[str, Any]) -> bytes:
    """What is added, and of the others as much as there is room for: first what may hold all of them, then the small."""
    ours, room = _encoded(added), _LARGEST
    room -= len(ours)
    fitting = [raw] if raw and len(raw) <= room else []
    room -= sum(map(len, fitting))
    left_out = len(kept) + bool(raw) - len(fitting)
    chosen = set()
    for number in sorted(range(len(kept)), key=lambda number: len(kept[number])):
        room -= len(kept[number])
        if room < 0:
            break
        chosen.add(number)
        left_out -= 1
    fitting += [entry for number, entry in enumerate(kept) if number in chosen]
    if left_out:
        ours += _encoded({LEFT_OUT_HEADER: left_out})
    table = b"".join(fitting) + ours
    return _LENGTH.pack(len(table)) + table


def _encoded(headers: Mapping[str, Any]) -> bytes:
    return encode.field_table(dict(headers))[_LENGTH.size :]
