"""The trace context in the headers of a message: put into encoded properties, and read from them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from pamqp import encode

from bridge.amqp.properties import FLAGS, HEADERS, decode_properties
from bridge.telemetry.trace_context import TRACEPARENT, TRACEPARENT_LENGTH, TRACESTATE, from_headers

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message
    from bridge.telemetry.trace_context import TraceContext

_FLAGS: Final = Struct(">H")
_LENGTH: Final = Struct(">I")
_BEFORE_HEADERS: Final = (FLAGS["content_type"], FLAGS["content_encoding"])
"""Short strings that stand before the headers, where they are set: AMQP 0-9-1, 4.2.6.1."""
_TRACEPARENT_NAME: Final = encode.short_string(TRACEPARENT)
_BEFORE_TRACEPARENT: Final = _TRACEPARENT_NAME + b"S" + _LENGTH.pack(TRACEPARENT_LENGTH)
_TRACESTATE_NAME: Final = encode.short_string(TRACESTATE)


def with_trace(message: Message, trace: TraceContext | None) -> Message:
    """The message with this context behind its other headers, of which none is a trace context; with None as it is."""
    if trace is None:
        return message
    entries = _BEFORE_TRACEPARENT + trace.traceparent.encode()
    if trace.tracestate:
        entries += _TRACESTATE_NAME + b"S" + _LENGTH.pack(len(trace.tracestate)) + trace.tracestate.encode()
    return message._replace(properties=_with_entries(message.properties, entries), trace=trace)


def trace_of(properties: bytes) -> TraceContext | None:
    """The valid context in the headers of a message; None if there is none.

    Args:
        properties: encoded. They are decoded only where the name of the header stands in them.
    """
    if _TRACEPARENT_NAME not in properties:
        return None
    headers = decode_properties(properties).headers
    values = [
        [value] if isinstance(value := headers.get(name), str) else [] for name in (TRACEPARENT, TRACESTATE)
    ]
    return from_headers(*values)


def trace_field(properties: bytes) -> dict[str, str]:
    """The field `trace_id` of a log line about this message; empty if the message belongs to no recorded trace."""
    trace = trace_of(properties)
    return {} if trace is None or not trace.sampled else {"trace_id": trace.trace_id}


def _with_entries(properties: bytes, entries: bytes) -> bytes:
    (flags,) = _FLAGS.unpack_from(properties)
    at = _FLAGS.size
    for flag in _BEFORE_HEADERS:
        if flags & flag:
            at += 1 + properties[at]
    before, length, rest = properties[_FLAGS.size : at], 0, at
    if flags & FLAGS[HEADERS]:
        (length,) = _LENGTH.unpack_from(properties, at)
        rest = at + _LENGTH.size + length
    table = properties[rest - length : rest] + entries
    return b"".join(
        (_FLAGS.pack(flags | FLAGS[HEADERS]), before, _LENGTH.pack(len(table)), table, properties[rest:])
    )
