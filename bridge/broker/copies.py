"""Copies a message to another queue or exchange: the same body, id and properties, without what belongs to the old place."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from bridge.amqp.message_types import Message
from bridge.amqp.properties import decode_properties
from bridge.broker.forwarded_properties import forwarded_properties

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ROUTING_HEADERS: Final = ("CC", "BCC")
"""Headers that route a message to further queues."""
_RABBITMQ_PREFIXES: Final = (
    "x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-"
)  # fmt: skip
"""Prefixes of headers that RabbitMQ adds. They belong to the old queue, and RabbitMQ uses them to detect cycles."""
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def copy_of(
    properties: bytes,
    body: bytes,
    *,
    exchange: str,
    routing_key: str,
    headers: Mapping[str, Any] = _NONE,
    without: Collection[str] = (),
    message_id: str | None = None,
) -> Message:
    """A copy of a message. Its body and its headers are copied byte for byte.

    Args:
        properties: of the message, encoded.
        body: of the message.
        exchange: where the copy goes; the default exchange is `""`.
        routing_key: of the copy; with the default exchange, the name of the queue.
        headers: to add or replace.
        without: headers to leave out.
        message_id: of the copy, if the message has none; None: any.
    """
    known = None
    if message_id is not None and not (found := decode_properties(properties)).message_id:
        known = replace(found, values={**found.values, "message_id": message_id})

    def is_left_out(name: str) -> bool:
        return name in _ROUTING_HEADERS or name in without or name.startswith(_RABBITMQ_PREFIXES)

    copied_id, encoded = forwarded_properties(properties, headers=headers, without=is_left_out, known=known)
    return Message(exchange, routing_key, copied_id, encoded, body)
