"""A message's properties as JSON: what the schemas describe."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bridge.amqp.properties import decode_properties

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message


def properties_of(message: Message) -> dict[str, Any]:
    """The properties under RabbitMQ's names, with the headers."""
    decoded = decode_properties(message.properties)
    found = {
        "type" if name == "message_type" else name: plain(value) for name, value in decoded.values.items()
    }
    return found | {"headers": plain(decoded.headers)}


def plain(value: Any) -> Any:
    """A decoded value as JSON: times in Unix seconds, byte arrays in Base64."""
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value
