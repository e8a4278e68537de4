"""How an event becomes a message of RabbitMQ: the contract that every consumer reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands as spec

from bridge.broker.publisher import Message
from bridge.events import MALFORMED, MalformedError, NotJsonError, digest, parse

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
    happened = datetime.fromtimestamp(event.timestamp, UTC)
    headers: dict[str, Any] = {
        "cloudEvents:specversion": SPEC_VERSION,
        "cloudEvents:id": event.id,
        "cloudEvents:source": SOURCE,
        "cloudEvents:type": event.name,
        "cloudEvents:subject": event.message_id,
        "cloudEvents:time": happened.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "received-at": received_at,
    }
    if event.other_spellings:
        headers["CC"] = list(event.other_spellings)
    return Message(
        exchange=exchange,
        routing_key=event.name,
        properties=spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_type=event.name,
            message_id=event.id,
            app_id=APP_ID,
            timestamp=happened,
            headers=headers,
        ),
        body=body,
    )


def of_malformed(body: bytes, reason: str, *, exchange: str, received_at: int) -> Message:
    """A body that is JSON but not an event, for the quarantine. Its id is that of its bytes.

    Args:
        body: the provider's bytes.
        reason: why they could not be read.
        exchange: where it goes.
        received_at: Unix milliseconds.
    """
    return Message(
        exchange=exchange,
        routing_key=MALFORMED,
        properties=spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_type=MALFORMED,
            message_id=digest(body),
            app_id=APP_ID,
            timestamp=datetime.fromtimestamp(received_at // 1000, UTC),
            headers={REASON_HEADER: reason, "received-at": received_at},
        ),
        body=body,
    )
