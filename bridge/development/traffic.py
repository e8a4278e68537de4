"""Generates realistic webhook traffic: every event, duplicates, disorder, and bodies that are not events."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.development.emission import event_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TYPICAL_MIX: Final[Mapping[str, float]] = MappingProxyType(
    {
        "delivered": 600,
        "opened": 280,
        "clicked": 80,
        "hard_bounced": 15,
        "soft_bounced": 10,
        "unsubscribed": 8,
        "skipped": 5,
        "complined": 1,
        "complained": 1,
    }
)
"""How many of 1,000 events of a newsletter have this name. Complaints have both spellings of the provider."""

_MAX_REPEATABLE: Final = 1000
"""How many of the last events may be repeated."""
_MAX_OVERTAKEN_BY: Final = 50
"""How many others may overtake an event."""
_NOT_JSON: Final = (b"", b'{"message": {"id": %d', b"id=%d&event=clicked", b"<event>%d</event>")
_NO_EVENT: Final = (
    b'{"message": {"id": %d}}',
    b"[%d]",
    b'{"message": {"id": %d}, "event": {"name": 7}}',
    b"%d",
)


class InvalidMixError(ValueError):
    """A mix that cannot be read."""


class BodyKind(StrEnum):
    """What a body is, as a receiver reads it."""

    EVENT = "event"
    NO_EVENT = "no event"
    """JSON, for the quarantine."""
    NOT_JSON = "not JSON"


class Posting(NamedTuple):
    """A body to post."""

    kind: BodyKind
    name: str
    """Of the event, in the provider's spelling; empty if it is not an event."""
    body: bytes


@dataclass(frozen=True, slots=True)
class TrafficProfile:
    """What the traffic consists of; shares are from 0 to 1."""

    weights: Mapping[str, float] = field(default_factory=lambda: TYPICAL_MIX)
    """Name -> relative frequency."""
    duplicates: float = 0
    """Share of events that repeat an earlier one, byte for byte."""
    disorder: float = 0
    """Share of events that later ones overtake."""
    malformed: float = 0
    """Share of bodies that are not JSON, or not an event; half of each."""
    first_id: int = 1
    """First message id; each event is about the next message."""


class Traffic:
    """An endless sequence of bodies. A seed always gives the same ones, except for their timestamps."""

    def __init__(self, profile: TrafficProfile, *, seed: int) -> None:
        self._profile = profile
        self._random = Random(seed)  # noqa: S311 -- a reproducible order, not a secret
        self._names = tuple(profile.weights)
        self._weights = tuple(profile.weights.values())
        self._number = 0
        self._recent: deque[Posting] = deque(maxlen=_MAX_REPEATABLE)
        self._held: list[tuple[int, int, Posting]] = []

    def next(self) -> Posting:
        """The next body to post."""
        while True:
            if self._held and self._held[0][0] <= self._number:
                return self._posted(heappop(self._held)[-1])
            if self._recent and self._happens(self._profile.duplicates):
                return self._random.choice(self._recent)
            posting = self._new()
            if not self._happens(self._profile.disorder):
                return self._posted(posting)
            heappush(
                self._held, (self._number + self._random.randint(1, _MAX_OVERTAKEN_BY), self._number, posting)
            )

    def _new(self) -> Posting:
        number = self._profile.first_id + self._number
        self._number += 1
        if self._happens(self._profile.malformed):
            return self._malformed(number)
        name = self._random.choices(self._names, self._weights)[0]
        data = (
            {"url": f"https://example.com/offer/{number}?utm_source=newsletter"} if name == "clicked" else {}
        )
        return Posting(BodyKind.EVENT, name, event_body(name, number, int(time.time()), data))

    def _malformed(self, number: int) -> Posting:
        kind, bodies = self._random.choice(((BodyKind.NOT_JSON, _NOT_JSON), (BodyKind.NO_EVENT, _NO_EVENT)))
        body = self._random.choice(bodies)
        return Posting(kind, "", body % number if b"%d" in body else body)

    def _posted(self, posting: Posting) -> Posting:
        if posting.kind is BodyKind.EVENT:
            self._recent.append(posting)
        return posting

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


def parse_mix(texts: Iterable[str]) -> Mapping[str, float]:
    """`["clicked=3,opened=7", "skipped"]` -> weights; the default weight is 1. No text at all is the typical mix.

    Raises:
        InvalidMixError: a weight is not a positive number.
    """
    weights: dict[str, float] = {}
    for item in (part.strip() for text in texts for part in text.split(",")):
        name, _, weight = item.partition("=")
        try:
            value = float(weight or 1)
        except ValueError:
            value = math.nan
        if not name or not 0 < value < math.inf:
            raise InvalidMixError(
                f"'{item}' is not an item of a mix: write name=weight, as in hard_bounced=5"
            )
        weights[name] = weights.get(name, 0) + value
    return weights or TYPICAL_MIX
