"""How an event becomes a message of RabbitMQ: the contract that every consumer reads."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pamqp import commands as spec

from bridge.amqp.frames import Message, composed
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
"""On quarantined messages: why the body could not be read."""


def of_body(body: bytes, *, exchange: str, received_at: int) -> Message:
    """The message of a body that was accepted before: always the same one for the same body and time.

    What is not even JSON cannot have been accepted: a disk has spoilt it, and the quarantine has it.
    """
    try:
        event = parse(body)
    except (MalformedError, NotJsonError) as malformed:
        return of_malformed(body, str(malformed), exchange=exchange, received_at=received_at)
    return of_event(event, body, exchange=exchange, received_at=received_at)


def of_event(event: Event, body: bytes, *, exchange: str, received_at: int) -> Message:
    """An event under its own name, with the provider's bytes untouched.

    Args:
        event: what the body says.
        body: the provider's bytes.
        exchange: where it goes.
        received_at: Unix milliseconds.
    """
    subject = event.message_id.encode()
    template = _template(event.name, len(subject))
    event_id = event.id.encode()
    properties = b"".join(
        (
            template.to_id,
            event_id,
            template.to_subject,
            subject,
            template.to_time,
            _rfc_3339(event.timestamp),
            template.to_received_at,
            _LONG.pack(received_at),
            template.to_message_id,
            event_id,
            _LONG.pack(event.timestamp),
            template.rest,
        )
    )
    return Message(exchange, event.name, event.id, properties, body, event.timestamp)


def of_malformed(body: bytes, reason: str, *, exchange: str, received_at: int) -> Message:
    """A body that is JSON but not an event, for the quarantine. Its id is that of its bytes.

    Args:
        body: the provider's bytes.
        reason: why they could not be read.
        exchange: where it goes.
        received_at: Unix milliseconds.
    """
    return composed(
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

_LONG: Final = Struct(">q")
_ID_LENGTH: Final = 32
_MOST_TEMPLATES: Final = 512
"""Eight names, message ids of a few lengths. Names that nobody knows push each other out."""
_MOST_TIMES: Final = 4096
"""The events of an hour, roughly in order."""


class _Template(NamedTuple):
    """The encoded properties of one kind of event, cut where the event's own values go."""

    to_id: bytes
    to_subject: bytes
    to_time: bytes
    to_received_at: bytes
    to_message_id: bytes
    rest: bytes
    """What comes after the message id and the timestamp, which follow each other."""


@lru_cache(_MOST_TEMPLATES)
def _template(name: str, subject_length: int) -> _Template:
    """Have pamqp encode one such event, and keep what all of them have in common.

    Each value is as long in all of them: lengths and flags are part of the template. pamqp sorts the headers.
    """
    event_id, subject, time = "i" * _ID_LENGTH, "s" * subject_length, "t" * len(_rfc_3339(0))
    encoded = _properties(name, event_id, subject, time).marshal()
    pieces = []
    for before, length in (
        (_text("cloudEvents:id", event_id), _ID_LENGTH),
        (_text("cloudEvents:subject", subject), subject_length),
        (_text("cloudEvents:time", time), len(time)),
        (_text("cloudEvents:type", name) + name.encode() + _key(RECEIVED_AT_HEADER) + b"l", _LONG.size),
        (bytes((PERSISTENT, _ID_LENGTH)), _ID_LENGTH + _LONG.size),
    ):
        piece, _, rest = encoded.partition(before)
        pieces.append(piece + before)
        encoded = rest[length:]
    return _Template._make([*pieces, encoded])


def _text(key: str, value: str) -> bytes:
    """All of a header but its value, which is a text: AMQP 0-9-1, 4.2.5.5."""
    return _key(key) + b"S" + len(value.encode()).to_bytes(4)


def _key(key: str) -> bytes:
    return bytes((len(key),)) + key.encode()


def _properties(name: str, event_id: str, subject: str, time: str) -> spec.Basic.Properties:
    """The contract."""
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


@lru_cache(_MOST_TIMES)
def _rfc_3339(timestamp: int) -> bytes:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
