"""Which events put an address on the list, and with which reason. No I/O."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Reason(StrEnum):
    """Why an address must not be written to."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    SKIPPED = "skipped"
    SOFT_BOUNCE = "soft_bounce"
    MANUAL = "manual"


REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        events.HARD_BOUNCED: Reason.HARD_BOUNCE,
        events.COMPLAINED: Reason.COMPLAINT,
        events.UNSUBSCRIBED: Reason.UNSUBSCRIBE,
    }
)
"""Name of an event that can suppress -> reason of the entry."""

DEFAULT_EVENTS: Final = (events.HARD_BOUNCED, events.COMPLAINED)


class UnsuitableEventError(ValueError):
    """The policy names an event that cannot suppress. The message names it, and those that can."""


class Policy:
    """The events that suppress, from the setting `suppression.events`."""

    def __init__(self, event_names: Iterable[str] = DEFAULT_EVENTS) -> None:
        """Args: the events that suppress, with either spelling of the complaint.

        Raises:
            UnsuitableEventError: one of them cannot suppress.
        """
        self.event_names = tuple(dict.fromkeys(events.canonical_name(name) for name in event_names))
        """Canonical names, each once, in the order of the setting."""
        for name in self.event_names:
            if name not in REASONS:
                raise UnsuitableEventError(
                    f"suppression.events: {name!r} cannot suppress; choose from {', '.join(REASONS)}"
                )

    def reason_for(self, event_name: str) -> Reason | None:
        """The reason with which this event suppresses; None if it does not."""
        name = events.canonical_name(event_name)
        return REASONS[name] if name in self.event_names else None
