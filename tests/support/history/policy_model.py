"""What the list should be, by the documentation alone: nothing here knows the code that keeps the list.

docs/how-it-works.md: an entry is a function of its events, not of their order: first and last time, count and cause are minimum,
maximum or sum. docs/reference/messages.md: the first event of an entry is published as `added`, each further one as `updated`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.history.records import ListEntry

_DEFAULT: Final = MappingProxyType({"hard_bounced": "hard_bounce", "complained": "complaint"})
EVERY_REASON: Final = MappingProxyType({**_DEFAULT, "unsubscribed": "unsubscribe", "skipped": "skipped"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Which events put an address on the list, for good. Soft bounces are not among them: they suppress by a rule of their own."""

    reasons: Mapping[str, str] = field(default_factory=lambda: _DEFAULT)
    """Name of an event -> the reason of its entry."""


DEFAULT_POLICY: Final = Policy()


class Cause(NamedTuple):
    """What an event says to the list."""

    reason: str
    event_at: int
    message: str


class Tally(NamedTuple):
    """What the list knows of a reason."""

    events: int
    first: int
    last: int
    message: str
    """The message whose event was the earliest."""


State = tuple[tuple[str, Tally], ...]
"""Of an address: reason and tally, ordered by reason."""

NOTHING: Final[State] = ()


def applied(state: State, cause: Cause) -> State:
    """The list after this event."""
    tallies = dict(state)
    known = tallies.get(cause.reason)
    if known is None:
        tallies[cause.reason] = Tally(1, cause.event_at, cause.event_at, cause.message)
    else:
        first = min((known.first, known.message), (cause.event_at, cause.message))
        tallies[cause.reason] = Tally(known.events + 1, first[0], max(known.last, cause.event_at), first[1])
    return tuple(sorted(tallies.items()))


def shows(state: State, entries: Iterable[ListEntry]) -> bool:
    """Whether these are the entries of the address in this state. A message that is not given is not compared."""
    seen = {entry.reason: entry for entry in entries}
    if len(seen) != len(state):
        return False
    for reason, tally in state:
        entry = seen.get(reason)
        if entry is None or (entry.count, entry.first_event_at, entry.last_event_at) != tally[:3]:
            return False
        if entry.message is not None and entry.message != tally.message:
            return False
    return True


def said(entries: Iterable[ListEntry]) -> str:
    """Entries in words."""
    words = [
        f"{one.reason} counted {one.count}, from {one.first_event_at} to {one.last_event_at}"
        for one in entries
    ]
    return "; ".join(words) or "no entry"


def state_said(state: State) -> str:
    words = [f"{reason} counted {one.events}, from {one.first} to {one.last}" for reason, one in state]
    return "; ".join(words) or "no entry"
