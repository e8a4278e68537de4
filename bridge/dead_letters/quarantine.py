"""The quarantine: bodies that were not events when they were received, and what they are read as today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.broker import header_values
from bridge.broker.messages import REASON_HEADER, RECEIVED_AT_HEADER, message_from_body
from bridge.broker.trace_headers import trace_of, with_trace
from bridge.dead_letters import message_file
from bridge.dead_letters.queue_reader import InspectedQueue
from bridge.events import MalformedError, NotJsonError, digest, parse
from bridge.timestamps import rfc3339_of_milliseconds, unix_ms_now

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery, Message
    from bridge.amqp.properties import Properties
    from bridge.dead_letters.queue_reader import HeldMessage


@dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """What is known of a quarantined body."""

    id: str
    """The digest of the body."""
    reason: str
    """Why it was quarantined."""
    event: str | None
    """The event name that it is read as today; None if it is still not an event."""
    problem: str
    """Why it is still not an event."""
    received_at: int | None
    """Unix milliseconds."""
    size: int
    """Bytes."""

    def age(self, now: int) -> float | None:
        """Seconds since it was received. Args: now, in Unix milliseconds."""
        return None if self.received_at is None else max(0.0, (now - self.received_at) / 1000)


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Conditions that must all hold. Without any, every body matches."""

    ids: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    """Canonical names that the body is read as today."""
    reason: str = ""
    """A substring of the reason."""
    received_before: int | None = None
    """Unix milliseconds. A body without a time does not match."""
    received_after: int | None = None
    """Unix milliseconds."""

    def matches(self, body: QuarantinedBody) -> bool:
        """Whether all conditions hold for this body."""
        at = body.received_at
        return (
            (not self.ids or body.id in self.ids)
            and (not self.events or body.event in self.events)
            and self.reason in body.reason
            and (self.received_before is None or (at is not None and at <= self.received_before))
            and (self.received_after is None or (at is not None and at >= self.received_after))
        )


def inspect_quarantine(queue: str) -> InspectedQueue[QuarantinedBody]:
    """How a `QueueReader` reads the quarantine. Args: the name of its queue."""
    return InspectedQueue(queue, "the quarantine", describe_body)


def describe_body(message: Delivery, properties: Properties) -> QuarantinedBody:
    """What the message says of its body, and what the body is read as today."""
    headers = properties.headers
    event, problem = None, ""
    try:
        event = parse(message.body).name
    except (MalformedError, NotJsonError) as error:
        problem = str(error)
    return QuarantinedBody(
        id=digest(message.body),
        reason=header_values.text(headers.get(REASON_HEADER)) or problem,
        event=event,
        problem=problem,
        received_at=_received_at(properties),
        size=len(message.body),
    )


def event_message_of(found: HeldMessage[QuarantinedBody], *, exchange: str) -> Message:
    """The message of the event that the body is today: the same bytes, time of reception and trace."""
    received_at = found.summary.received_at
    if received_at is None:
        received_at = unix_ms_now()
    message = message_from_body(found.message.body, exchange=exchange, received_at=received_at)
    return with_trace(message, trace_of(found.message.properties))


def quarantine_document(found: HeldMessage[QuarantinedBody]) -> dict[str, Any]:
    """A quarantined body as JSON: what is known of it, then the message."""
    body = found.summary
    return {
        "id": body.id,
        "reason": body.reason,
        "event": body.event,
        "problem": body.problem,
        "received_at": rfc3339_of_milliseconds(body.received_at),
        **message_file.message_document(found),
    }


def _received_at(properties: Properties) -> int | None:
    at = header_values.unix_ms(properties.headers.get(RECEIVED_AT_HEADER))
    return header_values.datetime_to_unix_ms(properties.values.get("timestamp")) if at is None else at
