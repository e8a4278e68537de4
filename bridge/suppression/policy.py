"""Which events put an address on the list, and under which reason. Pure."""

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
    SOFT_BOUNCE = "soft_bounce"
    MANUAL = "manual"


REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        events.HARD_BOUNCED: Reason.HARD_BOUNCE,
        events.COMPLAINED: Reason.COMPLAINT,
        events.UNSUBSCRIBED: Reason.UNSUBSCRIBE,
    }
)
"""An event that may suppress -> the reason it gives."""

DEFAULT_EVENTS: Final = (events.HARD_BOUNCED, events.COMPLAINED)


class UnsuitableEventError(ValueError):
    """An event that cannot suppress was named in the policy. Its message names it and those that can."""


class Policy:
    """Built from the setting `suppression.events`."""

    def __init__(self, event_names: Iterable[str] = DEFAULT_EVENTS) -> None:
        """Take the events that suppress; either spelling of the complaint will do.

        Raises:
            UnsuitableEventError: one of them cannot.
        """
        self.event_names = tuple(dict.fromkeys(events.canonical_name(name) for name in event_names))
        """Canonical names, in the order given, each once."""
        for name in self.event_names:
            if name not in REASONS:
                raise UnsuitableEventError(
                    f"suppression.events: {name!r} cannot suppress; choose from {', '.join(REASONS)}"
                )

    def reason_for(self, event_name: str) -> Reason | None:
        """Why this event suppresses, or None where it does not."""
        name = events.canonical_name(event_name)
        return REASONS[name] if name in self.event_names else None
