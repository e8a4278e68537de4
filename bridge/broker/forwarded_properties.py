"""Properties of a message that is forwarded: the original ones, byte for byte, and headers that we add."""

from __future__ import annotations

import uuid
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from pamqp import encode

from bridge.amqp.properties import FIELDS, FLAGS, HEADERS, decode_properties
from bridge.broker.messages import PERSISTENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.amqp.properties import Properties

RAW_HEADER: Final = "undecodable-properties"
"""A byte array: all original properties, encoded. Set when not all of them could be decoded."""
LEFT_OUT_HEADER: Final = "left-out-headers"
"""How many headers were left out because they do not fit into one frame: the largest ones."""

_COPIED_FIELDS: Final = (
    "content_type", "content_encoding", "correlation_id", "timestamp", "message_type", "app_id"
)  # fmt: skip
"""Not `expiration` and `reply_to`, which belong to the old queue, nor `user_id`, which RabbitMQ takes from that user only."""
_DELIVERY_MODE: Final = "delivery_mode"
_MESSAGE_ID: Final = "message_id"
_FLAGS: Final = Struct(">H")
_LENGTH: Final = Struct(">I")
_MAX_HEADER_BYTES: Final = 120_000
"""All properties have to fit into one frame, and RabbitMQ's frames have 128 KiB."""


def forwarded_properties(
    properties: bytes,
    *,
    headers: Mapping[str, Any],
    without: Callable[[str], bool],
    known: Properties | None = None,
) -> tuple[str, bytes]:
    """Persistent, with a message id, and decodable by anybody. If some could not be decoded, all are kept in `RAW_HEADER`.

    Args:
        properties: the original ones, encoded.
        headers: to add or replace.
        without: whether to leave out the header of this name.
        known: the decoded properties, if the caller has them.

    Returns:
        The message id, by which a return is matched, and the encoded properties.
    """
    found = known or decode_properties(properties)
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
    fields = {name: found.raw[name] for name in _COPIED_FIELDS if name in found.raw}
    fields["delivery_mode"] = encode.octet(PERSISTENT)
    fields["message_id"] = encode.short_string(message_id)
    fields[HEADERS] = _fit_headers(kept, raw, added)
    flags = 0
    for name in fields:
        flags |= FLAGS[name]
    return message_id, _FLAGS.pack(flags) + b"".join(fields[name] for name in FIELDS if name in fields)


def _fit_headers(kept: list[bytes], raw: bytes, added: dict[str, Any]) -> bytes:
    """The added headers, and of the others what fits: first the raw properties, then the smallest headers."""
    ours, room = _encoded(added), _MAX_HEADER_BYTES
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
