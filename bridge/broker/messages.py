"""Builds the message of an event: the contract with every consumer."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pamqp import commands as spec

from bridge.amqp.message_types import Message, make_message
from bridge.events import MALFORMED, MalformedError, NotJsonError, digest, other_spellings, parse

if TYPE_CHECKING:
    from bridge.events import Event

SOURCE: Final = "/webhooks/msndr"
"""CloudEvents `source`: the context in which the event happened."""

APP_ID: Final = "bridge"
CONTENT_TYPE: Final = "application/json"
PERSISTENT: Final = 2
SPEC_VERSION: Final = "1.0"
REASON_HEADER: Final = "malformed-reason"
"""On quarantined messages: why the body is not an event."""


def message_from_body(body: bytes, *, exchange: str, received_at: int) -> Message:
    """The message of a body that was accepted earlier: always the same for the same body and time.

    A body that is not JSON was never accepted, so a disk has damaged it. It goes to the quarantine.
    """
    try:
        event = parse(body)
    except (MalformedError, NotJsonError) as malformed:
        return malformed_message(body, str(malformed), exchange=exchange, received_at=received_at)
    return event_message(event, body, exchange=exchange, received_at=received_at)


def event_message(event: Event, body: bytes, *, exchange: str, received_at: int) -> Message:
    """The message of an event: its name is the routing key, the provider's bytes are the body.

    Args:
        event: the parsed body.
        body: the provider's bytes.
        exchange: to publish to.
        received_at: Unix milliseconds.
    """
    subject = event.message_id.encode()
    template = _template(event.name, len(subject))
    event_id = event.id.encode()
    properties = b"".join(
        (
            *_to_received_at(template, event, event_id, subject),
            _INT64.pack(received_at),
            template.to_message_id,
            event_id,
            _INT64.pack(event.timestamp),
            template.rest,
        )
    )
    return Message(exchange, event.name, event.id, properties, body, event.timestamp)


def are_of_event(properties: bytes, event: Event) -> bool:
    """Whether these are the properties that `event_message` gives the event, whenever it came in: then each can be decoded."""
    subject = event.message_id.encode()
    template = _template(event.name, len(subject))
    event_id = event.id.encode()
    to_received_at = b"".join(_to_received_at(template, event, event_id, subject))
    if not properties.startswith(to_received_at):
        return False
    rest = (template.to_message_id, event_id, _INT64.pack(event.timestamp), template.rest)
    return properties[len(to_received_at) + _INT64.size :] == b"".join(rest)


def malformed_message(body: bytes, reason: str, *, exchange: str, received_at: int) -> Message:
    """The message of a body that is JSON but not an event, for the quarantine. Its id is the digest of the body.

    Args:
        body: the provider's bytes.
        reason: why it is not an event.
        exchange: to publish to.
        received_at: Unix milliseconds.
    """
    return make_message(
        exchange=exchange,
        routing_key=MALFORMED,
        properties=spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_type=MALFORMED,
            message_id=digest(body),
            app_id=APP_ID,
            timestamp=datetime.fromtimestamp(received_at // 1000, UTC),
            headers={REASON_HEADER: reason, RECEIVED_AT_HEADER: received_at},
        ),
        body=body,
    )


RECEIVED_AT_HEADER: Final = "received-at"
"""When the request came in, Unix milliseconds."""

_INT64: Final = Struct(">q")
_ID_LENGTH: Final = 32
_MAX_TEMPLATES: Final = 512
"""Enough for eight names and message ids of a few lengths. Unknown names evict each other."""
_MAX_CACHED_TIMES: Final = 4096
"""Enough for the events of an hour, roughly in order."""


class _Template(NamedTuple):
    """The encoded properties of one kind of event, split where the event's own values are inserted."""

    to_id: bytes
    to_subject: bytes
    to_time: bytes
    to_received_at: bytes
    to_message_id: bytes
    rest: bytes
    """What follows message id and timestamp, which are adjacent."""


@lru_cache(_MAX_TEMPLATES)
def _template(name: str, subject_length: int) -> _Template:
    """Let pamqp encode a sample event, and split the result at the event's own values.

    The values must have the same length in every event, because lengths and flags are part of the template. pamqp sorts
    the headers.
    """
    event_id, subject, time = "i" * _ID_LENGTH, "s" * subject_length, "t" * len(_rfc_3339(0))
    encoded = _properties(name, event_id, subject, time).marshal()
    pieces = []
    for before, length in (
        (_text_header_prefix("cloudEvents:id", event_id), _ID_LENGTH),
        (_text_header_prefix("cloudEvents:subject", subject), subject_length),
        (_text_header_prefix("cloudEvents:time", time), len(time)),
        (
            _text_header_prefix("cloudEvents:type", name)
            + name.encode()
            + _short_string(RECEIVED_AT_HEADER)
            + b"l",
            _INT64.size,
        ),
        (bytes((PERSISTENT, _ID_LENGTH)), _ID_LENGTH + _INT64.size),
    ):
        piece, _, rest = encoded.partition(before)
        pieces.append(piece + before)
        encoded = rest[length:]
    return _Template._make([*pieces, encoded])


def _to_received_at(
    template: _Template, event: Event, event_id: bytes, subject: bytes
) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes]:
    """The properties of an event, in pieces, up to the time at which it came in."""
    return (
        template.to_id,
        event_id,
        template.to_subject,
        subject,
        template.to_time,
        _rfc_3339(event.timestamp),
        template.to_received_at,
    )


def _text_header_prefix(key: str, value: str) -> bytes:
    """A text header up to its value: AMQP 0-9-1, 4.2.5.5."""
    return _short_string(key) + b"S" + len(value.encode()).to_bytes(4)


def _short_string(key: str) -> bytes:
    return bytes((len(key),)) + key.encode()


def _properties(name: str, event_id: str, subject: str, time: str) -> spec.Basic.Properties:
    """The properties of the contract."""
    headers: dict[str, Any] = {
        "cloudEvents:specversion": SPEC_VERSION,
        "cloudEvents:id": event_id,
        "cloudEvents:source": SOURCE,
        "cloudEvents:type": name,
        "cloudEvents:subject": subject,
        "cloudEvents:time": time,
        RECEIVED_AT_HEADER: 2
        ** 62,  # pamqp writes the smallest integer that fits, and milliseconds take this one
    }
    if others := other_spellings(name):
        headers["CC"] = list(others)
    return spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT,
        message_type=name,
        message_id=event_id,
        app_id=APP_ID,
        timestamp=datetime.fromtimestamp(0, UTC),
        headers=headers,
    )


@lru_cache(_MAX_CACHED_TIMES)
def _rfc_3339(timestamp: int) -> bytes:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
