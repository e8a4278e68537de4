"""Properties of a message that is moved to another queue and back: the original ones, byte for byte, with two exceptions."""

from __future__ import annotations

from struct import Struct
from typing import Final

from bridge.amqp.properties import FIELDS, FLAGS, HEADERS, decode_properties

_COUNTS: Final = frozenset({"x-delivery-count", "x-acquired-count"})
"""RabbitMQ adds them at each delivery of a quorum queue, and begins anew in another queue."""
_USER_ID: Final = "user_id"
"""RabbitMQ takes it from that user only, and closes the channel of any other."""
_FLAGS: Final = Struct(">H")
_LENGTH: Final = Struct(">I")


def moved_properties(properties: bytes) -> tuple[str, bytes]:
    """All properties and headers in their order, without `user_id` and RabbitMQ's counts of deliveries.

    What cannot be decoded is not touched.

    Returns:
        The message id, by which a return is matched, and the encoded properties.
    """
    found = decode_properties(properties)
    message_id = found.message_id or ""
    kept = [entry.raw for entry in found.entries if entry.name not in _COUNTS]
    fields = {name: raw for name, raw in found.raw.items() if name != _USER_ID}
    if found.error is not None or (len(kept), len(fields)) == (len(found.entries), len(found.raw)):
        return message_id, properties
    if kept:
        table = b"".join(kept)
        fields[HEADERS] = _LENGTH.pack(len(table)) + table
    flags = sum(FLAGS[name] for name in fields)
    return message_id, _FLAGS.pack(flags) + b"".join(fields[name] for name in FIELDS if name in fields)
