"""What the pages say of entries and changes: words for people, the provider's event laid out, paths of addresses."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson

from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bridge.suppression.change import Action, Change

REASONS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.HARD_BOUNCE: "hard bounce",
        Reason.COMPLAINT: "complaint",
        Reason.UNSUBSCRIBE: "unsubscribed",
        Reason.SKIPPED: "skipped by the provider",
        Reason.SOFT_BOUNCE: "soft bounces",
        Reason.MANUAL: "added by a person",
    }
)

MOST_OF_EVENT: Final = 20_000
"""Characters of an event that are shown."""

_ACTIONS: Final[Mapping[Action, tuple[str, str]]] = MappingProxyType(
    {
        "added": ("bad", "Put on the list"),
        "updated": ("bad", "On the list again"),
        "removed": ("good", "Lifted"),
        "expired": ("good", "Ended"),
        "allowed": ("good", "Allowed"),
        "disallowed": ("warn", "Not allowed any more"),
        "erased": ("warn", "Erased"),
    }
)
"""Action of a change -> kind of its badge, and words."""


@dataclass(frozen=True, slots=True)
class Line:
    """One change in the timeline."""

    change: Change
    kind: str
    """Of the badge."""
    title: str
    reason: str
    """In words; empty where it is a change of the allow-list, or an erasure."""
    after: str
    """What suppresses the address after it, in words; empty where that is not known."""
    event: str | None
    """The provider's own event, laid out."""


def timeline(changes: Iterable[Change]) -> list[Line]:
    """The changes as the page shows them."""
    return [_line(change) for change in changes]


def _line(change: Change) -> Line:
    kind, title = _ACTIONS[change.action]
    return Line(
        change=change,
        kind=kind,
        title=title,
        reason="" if change.reason is None else REASONS[change.reason],
        after="" if change.reasons is None else _state(change.reasons),
        event=laid_out(change.evidence),
    )


def _state(reasons: Sequence[Reason]) -> str:
    return f"not to be written to: {in_words(reasons)}" if reasons else "may be written to"


def in_words(reasons: Iterable[Reason]) -> str:
    """Such as `complaint, hard bounce`."""
    return ", ".join(REASONS[reason] for reason in reasons)


def laid_out(evidence: bytes | None) -> str | None:
    """An event as the provider sent it: JSON with a line for each value, anything else as it is. None stays None.

    Of a very long one only the beginning: a page shows many.
    """
    if evidence is None:
        return None
    try:
        text = orjson.dumps(orjson.loads(evidence), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = evidence.decode(errors="replace")
    if len(text) <= MOST_OF_EVENT:
        return text
    return f"{text[:MOST_OF_EVENT]}\n… and {len(text) - MOST_OF_EVENT:,} characters more"


def path_of(address: str) -> str:
    """The page of an address, below /console."""
    return f"/address/{quote(address, safe='@')}"
