"""Which events put an address on the list, with which reason, and for how long. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from bridge.settings.list_sections import Suppression


class Reason(StrEnum):
    """Why an address must not be written to. Where there are many, `str` of one costs a quarter of its `value`."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    SKIPPED = "skipped"
    SOFT_BOUNCE = "soft_bounce"
    MANUAL = "manual"


def wins_over(reason: Reason, *, over_complaints: bool) -> bool:
    """Whether a rule of the allow-list wins over an entry with this reason.

    What a person has put on the list stays in force. A complaint stays, too, unless the rule was forced.
    """
    if reason is Reason.MANUAL:
        return False
    return over_complaints or reason is not Reason.COMPLAINT


REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        events.HARD_BOUNCED: Reason.HARD_BOUNCE,
        events.COMPLAINED: Reason.COMPLAINT,
        events.UNSUBSCRIBED: Reason.UNSUBSCRIBE,
        events.SKIPPED: Reason.SKIPPED,
        events.SOFT_BOUNCED: Reason.SOFT_BOUNCE,
    }
)
"""Name of an event that can suppress -> reason of the entry."""

DEFAULT_EVENTS: Final = (events.HARD_BOUNCED, events.COMPLAINED)

_FOR_GOOD: Final[Mapping[Reason, int | None]] = MappingProxyType({})


class UnsuitableEventError(ValueError):
    """The policy names an event that cannot suppress. The message names it, and those that can."""


@dataclass(frozen=True, slots=True)
class SoftBounceRule:
    """When soft bounces suppress an address, and for how long. The defaults are those of the settings."""

    threshold: int = 3
    """So many different messages must have bounced."""
    window: int = 604_800
    """Within so many seconds."""
    expiry: int = 259_200
    """Seconds for which the address is suppressed then."""
    factor: float = 2.0
    """Each further time it is so much longer."""
    expiry_max: int = 2_592_000
    """Seconds that it is never longer than."""

    def seconds(self, earlier: int) -> int:
        """How long the address is suppressed. Args: how often soft bounces have suppressed it before."""
        seconds = float(self.expiry)
        for _ in range(earlier):  # a power may be too great for a float
            seconds *= self.factor
            if seconds >= self.expiry_max or self.factor == 1:
                break
        return min(int(seconds), self.expiry_max)

    @property
    def memory(self) -> int:
        """An address without a soft bounce for so many seconds starts anew, as if it had never bounced."""
        return self.window + 2 * self.expiry_max

    def needed_since(self, now: int) -> int:
        """What the retention may prune: all soft bounces of an address whose newest one is older than this, Unix seconds.

        And then its delivery, if that is older, too. Of an address that has newer soft bounces both are needed.
        """
        return now - self.memory


class Policy:
    """The events that suppress, from the setting `suppression.events`, and for how long, from those with `expiry`."""

    def __init__(
        self,
        event_names: Iterable[str] = DEFAULT_EVENTS,
        *,
        expiry: Mapping[Reason, int | None] = _FOR_GOOD,
        soft_bounces: SoftBounceRule | None = None,
    ) -> None:
        """Make a policy.

        Args:
            event_names: the events that suppress, with either spelling of the complaint.
            expiry: reason -> seconds from the last event to the end; None or absent: for good. Complaints are always for
                good, and soft bounces have a rule of their own.
            soft_bounces: when soft bounces suppress, if their event is among the names.

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
        self._reasons = {name: REASONS[name] for name in self.event_names}
        self.soft_bounces = soft_bounces or SoftBounceRule()
        self._expiry = expiry

    @classmethod
    def of(cls, settings: Suppression) -> Self:
        """The policy of these settings."""
        return cls(
            settings.events,
            expiry={
                Reason.HARD_BOUNCE: settings.hard_bounce_expiry,
                Reason.UNSUBSCRIBE: settings.unsubscribe_expiry,
                Reason.SKIPPED: settings.skip_expiry,
            },
            soft_bounces=SoftBounceRule(
                settings.soft_bounce_threshold,
                settings.soft_bounce_window,
                settings.soft_bounce_expiry,
                settings.soft_bounce_expiry_factor,
                settings.soft_bounce_expiry_max,
            ),
        )

    def reason_for(self, event_name: str) -> Reason | None:
        """The reason with which this event suppresses; None if it does not."""
        # Nearly always it is the canonical name.
        return self._reasons.get(event_name) or self._reasons.get(events.canonical_name(event_name))

    def uses(self, event_name: str) -> bool:
        """Whether this event may change the list."""
        return self.reason_for(event_name) is not None or self.uses_delivery(event_name)

    def uses_delivery(self, event_name: str) -> bool:
        """Whether this event is a delivery, and deliveries end soft bounces."""
        return event_name == events.DELIVERED and events.SOFT_BOUNCED in self.event_names

    def expires_at(self, reason: Reason, at: int) -> int | None:
        """When an event that happened at `at` ceases to suppress, Unix seconds; None: never. Not for soft bounces."""
        seconds = self._expiry.get(reason) if reason is not Reason.COMPLAINT else None
        return None if seconds is None else at + seconds


DEFAULT_POLICY: Final = Policy()
"""That of the settings' defaults."""
