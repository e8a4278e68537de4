"""What was answered, what arrived, and what the list says: whether the three agree. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

REASONS: Final = {"hard_bounced": "hard_bounce", "complained": "complaint"}
"""The policy's default: name of an event -> the reason for which its recipient is on the list."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event in the queue that is bound to all of them."""

    name: str
    message: str
    """The provider's id of the message that it is about."""
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Key:
    """Of an entry of the list."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Of the events that were answered 200."""

    events: int
    """Different ones; a repeat has the id of the first."""
    arrived: int
    lost: tuple[str, ...]
    """Their ids."""
    duplicates: int
    """Messages beyond one for each answer: a publish whose confirm was lost, a repeat whose answer was."""
    unanswered: int
    """Events that arrived although nobody got a 200 for them."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The suppression list, against what arrived."""

    expected: int
    missing: tuple[Key, ...]
    unasked: tuple[Key, ...]
    """On the list, and nothing that arrived asks for it."""
    miscounted: tuple[Key, ...]
    """With another count than there were different events."""
    untold: tuple[Key, ...]
    """On the list, but never published as added."""

    @property
    def good(self) -> bool:
        return not (self.missing or self.unasked or self.miscounted or self.untold)


def arrivals(accepted: Mapping[str, int], arrived: Mapping[str, Arrived]) -> Arrivals:
    """Compare the two sides of the ledger.

    Args:
        accepted: event id -> how often it was answered 200.
        arrived: event id -> what arrived under it.
    """
    return Arrivals(
        events=len(accepted),
        arrived=len(accepted.keys() & arrived.keys()),
        lost=tuple(sorted(accepted.keys() - arrived.keys())),
        duplicates=sum(max(0, one.copies - max(1, accepted.get(id_, 0))) for id_, one in arrived.items()),
        unanswered=len(arrived.keys() - accepted.keys()),
    )


def expected_list(arrived: Iterable[Arrived]) -> dict[Key, int]:
    """Entry -> how many different events ask for it.

    Args:
        arrived: each event once.
    """
    counts: dict[Key, int] = {}
    for event in arrived:
        if (reason := REASONS.get(event.name)) is not None:
            key = Key(address_of(event.message), reason)
            counts[key] = counts.get(key, 0) + 1
    return counts


def listed(
    arrived: Iterable[Arrived], entries: Iterable[Mapping[str, object]], told: Collection[Key]
) -> Listed:
    """Compare the list with what it should be.

    Args:
        arrived: each event once.
        entries: as `bridge suppressions list --json` prints its items.
        told: what was published as added.
    """
    expected = expected_list(arrived)
    counts = {Key(str(entry["address"]), str(entry["reason"])): entry["count"] for entry in entries}
    return Listed(
        expected=len(expected),
        missing=_ordered(expected.keys() - counts.keys()),
        unasked=_ordered(counts.keys() - expected.keys()),
        miscounted=_ordered(key for key in expected.keys() & counts.keys() if expected[key] != counts[key]),
        untold=_ordered(counts.keys() - told),
    )


def address_of(message: str) -> str:
    """Whom the simulated provider has sent this message to."""
    return f"recipient{message}@example.org"


def _ordered(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (key.address, key.reason)))
