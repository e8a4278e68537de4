"""What changes the list: events that suppress and deliveries, and what came of recording them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from bridge.suppression.address_keys import PLAIN

if TYPE_CHECKING:
    from bridge.events import Event
    from bridge.suppression.policy import Policy, Reason

RecordOutcome = Literal["added", "updated", "counted", "outdated", "repeated"]


@dataclass(frozen=True, slots=True)
class SuppressingEvent:
    """An event that suppresses, with its address."""

    address: str
    """In any spelling; the list normalises it."""
    reason: Reason
    event_id: str
    event_at: int
    """When it happened, Unix seconds."""
    message_id: str
    evidence: bytes
    """The event as the provider sent it."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery to an address: soft bounces until then do not count."""

    address: str
    """In any spelling; the list normalises it."""
    event_id: str
    event_at: int
    """When it happened, Unix seconds."""
    message_id: str
    evidence: bytes
    """The event as the provider sent it."""


ListEvent = SuppressingEvent | Delivered


class RecordedEvent(NamedTuple):
    """The result of recording an event."""

    event: ListEvent
    outcome: RecordOutcome
    """`counted`: it is a delivery, or a soft bounce that changes no entry. Nothing was changed where it is `repeated`, as
    this event id was handled before, or `outdated`: a person has taken the address off the list since the event
    happened, or what it would have suppressed is over, or a soft bounce was followed by a delivery."""


def event_of_address(event: Event, address: str, evidence: bytes, *, policy: Policy) -> ListEvent:
    """What an event that the policy uses is for the list.

    Args:
        event: as it was parsed.
        address: to which its message was sent.
        evidence: the event as the provider sent it.
        policy: which events suppress.

    Raises:
        InvalidAddressError: the address is invalid.
    """
    PLAIN.written(address)
    reason = policy.reason_for(event.name)
    if reason is None:
        return Delivered(address, event.id, event.timestamp, event.message_id, evidence)
    return SuppressingEvent(address, reason, event.id, event.timestamp, event.message_id, evidence)
