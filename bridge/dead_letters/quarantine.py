"""The quarantine: bodies that were no events to the reader of their day, and what today's makes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.broker import header_values
from bridge.broker.messages import REASON_HEADER, RECEIVED_AT_HEADER, of_body
from bridge.dead_letters import message_file
from bridge.dead_letters.queue_reader import Place
from bridge.events import MalformedError, NotJsonError, digest, parse
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from bridge.amqp.deliveries import Delivery
    from bridge.amqp.frames import Message
    from bridge.amqp.properties import Properties
    from bridge.dead_letters.queue_reader import Found


@dataclass(frozen=True, slots=True)
class Body:
    """What is known of a body in quarantine."""

    id: str
    """The digest of its bytes."""
    reason: str
    """Why it is here."""
    event: str | None
    """What it is read as today; None where it is still no event."""
    problem: str
    """Why it is still none."""
    received_at: int | None
    """Unix milliseconds."""
    size: int
    """Bytes."""

    def age(self, now: int) -> float | None:
        """Seconds since it was received, at a time in Unix milliseconds."""
        return None if self.received_at is None else max(0.0, (now - self.received_at) / 1000)


@dataclass(frozen=True, slots=True)
class WantedBodies:
    """Which bodies; every condition that is set must hold. Without any, all."""

    ids: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    """In our spelling: those that are read as one of these today."""
    reason: str = ""
    """A part of the reason."""
    received_before: int | None = None
    """Unix milliseconds. A body without a time is neither older nor younger than any."""
    received_after: int | None = None
    """Unix milliseconds."""

    def matches(self, body: Body) -> bool:
        at = body.received_at
        return (
            (not self.ids or body.id in self.ids)
            and (not self.events or body.event in self.events)
            and self.reason in body.reason
            and (self.received_before is None or (at is not None and at <= self.received_before))
            and (self.received_after is None or (at is not None and at >= self.received_after))
        )


def quarantine(queue: str) -> Place[Body]:
    return Place(queue, "the quarantine", body_of)


def body_of(message: Delivery, properties: Properties) -> Body:
    """What the message says of its body, and the body today."""
    headers = properties.headers
    event, problem = None, ""
    try:
        event = parse(message.body).name
    except (MalformedError, NotJsonError) as error:
        problem = str(error)
    return Body(
        id=digest(message.body),
        reason=header_values.text(headers.get(REASON_HEADER)) or problem,
        event=event,
        problem=problem,
        received_at=_received_at(properties),
        size=len(message.body),
    )


def as_event(found: Found[Body], *, exchange: str) -> Message:
    """The message that it would have been: its own bytes, and received when it was."""
    received_at = found.letter.received_at
    if received_at is None:
        received_at = time.time_ns() // 1_000_000
    return of_body(found.message.body, exchange=exchange, received_at=received_at)


def document(found: Found[Body]) -> dict[str, Any]:
    """A body as JSON: what is known of it, then the message."""
    body = found.letter
    return {
        "id": body.id,
        "reason": body.reason,
        "event": body.event,
        "problem": body.problem,
        "received_at": rfc3339_of_milliseconds(body.received_at),
        **message_file.message_document(found),
    }


def _received_at(properties: Properties) -> int | None:
    at = header_values.moment(properties.headers.get(RECEIVED_AT_HEADER))
    return header_values.milliseconds(properties.values.get("timestamp")) if at is None else at
