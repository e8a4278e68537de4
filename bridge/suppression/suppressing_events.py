"""What puts an address on the list, and what came of recording it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bridge.suppression.policy import Reason

RecordOutcome = Literal["added", "updated", "outdated", "repeated"]


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
class RecordedEvent:
    """The result of recording a suppressing event."""

    event: SuppressingEvent
    outcome: RecordOutcome
    """Nothing was changed where it is `repeated`, as this event id was handled before, or `outdated`, as a person has
    taken the address off the list since the event happened."""
