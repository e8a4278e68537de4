"""Describes a dead letter by its headers, and selects dead letters. `dead_letter_queue` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker import header_values
from bridge.dead_letters import history
from bridge.dead_letters.failure_reasons import UNDECODABLE
from bridge.dead_letters.queue_reader import InspectedQueue
from bridge.events import canonical_name, digest

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery
    from bridge.amqp.properties import Properties

_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, as its headers describe it."""

    id: str
    """The event id; without one, the digest of the body."""
    event: str
    reason: str
    """A keyword: the bridge's, or RabbitMQ's own, such as `delivery_limit`, if RabbitMQ dead-lettered it."""
    error: str
    attempts: int
    """1 if unknown: it was delivered."""
    died_at: int | None
    """Unix milliseconds."""
    first_failure: int | None
    """Unix milliseconds."""
    where: str
    """Where the last attempt failed."""

    def age(self, now: int) -> float | None:
        """Seconds since it became a dead letter. Args: now, in Unix milliseconds."""
        return None if self.died_at is None else max(0.0, (now - self.died_at) / 1000)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Conditions that must all hold. Without any, every dead letter matches."""

    ids: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    """Canonical names."""
    died_before: int | None = None
    """Unix milliseconds. A dead letter without a time does not match."""
    died_after: int | None = None
    """Unix milliseconds."""

    def matches(self, letter: DeadLetter) -> bool:
        """Whether all conditions hold for this dead letter."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.events or canonical_name(letter.event) in self.events)
            and (
                self.died_before is None
                or (letter.died_at is not None and letter.died_at <= self.died_before)
            )
            and (
                self.died_after is None or (letter.died_at is not None and letter.died_at >= self.died_after)
            )
        )


def inspect_dead_letters(queue: str) -> InspectedQueue[DeadLetter]:
    """How a `QueueReader` reads the dead letters. Args: the name of their queue."""
    return InspectedQueue(queue, "the dead letters", describe_dead_letter)


def describe_dead_letter(message: Delivery, properties: Properties) -> DeadLetter:
    """What the message says of itself, whether the bridge or RabbitMQ dead-lettered it."""
    headers, text = properties.headers, header_values.text
    attempts = header_values.attempts(headers.get(history.RETRY_ATTEMPT_HEADER))
    death = _last_death(headers)
    undecodable = f"the properties cannot be decoded: {properties.error}" if properties.error else ""
    return DeadLetter(
        id=properties.message_id or digest(message.body),
        event=properties.values.get("message_type") or text(headers.get("cloudEvents:type")) or _UNKNOWN,
        reason=text(headers.get(history.DEAD_REASON_HEADER))
        or text(death.get("reason"))
        or (UNDECODABLE if undecodable else _UNKNOWN),
        error=text(headers.get(history.DEAD_ERROR_HEADER))
        or text(headers.get(history.RETRY_ERROR_HEADER))
        or undecodable,
        attempts=1 if attempts is None else attempts,
        died_at=header_values.unix_ms(headers.get(history.DEAD_AT_HEADER))
        or header_values.datetime_to_unix_ms(death.get("time")),
        first_failure=header_values.unix_ms(headers.get(history.RETRY_FIRST_FAILURE_HEADER)),
        where=text(headers.get(history.RETRY_WHERE_HEADER)),
    )


def _last_death(headers: Any) -> dict[str, Any]:
    """The latest entry of `x-death`, which RabbitMQ writes when it dead-letters a message."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return dict(deaths[0])
    return {}
