"""A message to publish, and a delivered one. Both paths use them; their properties are encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pamqp import commands as spec

    from bridge.telemetry.trace_context import TraceContext


class Message(NamedTuple):
    """A message to publish; `make_message` creates one from decoded properties."""

    exchange: str
    routing_key: str
    message_id: str
    """As in the properties. A `basic.return` is matched by it."""
    properties: bytes
    """Encoded: the flags, then the values."""
    body: bytes
    happened_at: int | None = None
    """The timestamp of the event, Unix seconds. Its age is measured at the confirm."""
    mandatory: bool = True
    """Whether it must reach a queue. Else a message that matches no binding counts as published."""
    trace: TraceContext | None = None
    """The trace context in its headers, where `trace_headers.with_trace` has put one."""


def make_message(
    exchange: str, routing_key: str, properties: spec.Basic.Properties, body: bytes, *, mandatory: bool = True
) -> Message:
    """A message with these properties."""
    message_id = properties.message_id or ""
    return Message(exchange, routing_key, message_id, properties.marshal(), body, mandatory=mandatory)


class Delivery(NamedTuple):
    """A delivered message. Only exchange and routing key are decoded."""

    tag: int
    """Delivery tag, for the acknowledgement."""
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    """Encoded: the flags, then the values, as in `Message`. `properties.decode_properties` decodes them."""
    body: bytes
