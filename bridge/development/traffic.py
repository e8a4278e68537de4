"""What a provider posts when it is watched for long enough: every event, repeats, any order, and bodies that are none."""

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

TYPICAL: Final[Mapping[str, float]] = MappingProxyType(
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
"""Of 1,000 events of a newsletter, how many have this name. Complaints come in both spellings of the provider."""

_REMEMBERED: Final = 1000
"""Events that may be repeated, the last ones."""
_LATEST: Final = 50
"""By how many others an event is overtaken at the most."""
_NOT_JSON: Final = (b"", b'{"message": {"id": %d', b"id=%d&event=clicked", b"<event>%d</event>")
_NO_EVENT: Final = (
    b'{"message": {"id": %d}}',
    b"[%d]",
    b'{"message": {"id": %d}, "event": {"name": 7}}',
    b"%d",
)


class InvalidMixError(ValueError):
    """A mix that cannot be read."""


class Kind(StrEnum):
    EVENT = "event"
    NO_EVENT = "no event"
    """JSON, for the quarantine."""
    NOT_JSON = "not JSON"


class Shot(NamedTuple):
    """One body to post."""

    kind: Kind
    name: str
    """Of the event, as the provider spells it; empty where there is none."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Habits:
    """How the provider behaves; shares are from 0 to 1."""

    weights: Mapping[str, float] = field(default_factory=lambda: TYPICAL)
    """Name -> how often it comes, in relation to the others."""
    duplicates: float = 0
    """Events that were posted before, to the byte."""
    disorder: float = 0
    """Events that are overtaken by later ones."""
    malformed: float = 0
    """Bodies that are no JSON, or no event; one of two each."""
    first_id: int = 1
    """Of the messages; each event is about the next one."""


class Traffic:
    """Bodies without end; those of one seed are always the same, but for the time in them."""

    def __init__(self, habits: Habits, *, seed: int) -> None:
        self._habits = habits
        self._random = Random(seed)  # noqa: S311 -- an order to be had again, not a secret
        self._names = tuple(habits.weights)
        self._weights = tuple(habits.weights.values())
        self._number = 0
        self._recent: deque[Shot] = deque(maxlen=_REMEMBERED)
        self._held: list[tuple[int, int, Shot]] = []

    def next(self) -> Shot:
        while True:
            if self._held and self._held[0][0] <= self._number:
                return self._posted(heappop(self._held)[-1])
            if self._recent and self._happens(self._habits.duplicates):
                return self._random.choice(self._recent)
            shot = self._new()
            if not self._happens(self._habits.disorder):
                return self._posted(shot)
            heappush(self._held, (self._number + self._random.randint(1, _LATEST), self._number, shot))

    def _new(self) -> Shot:
        number = self._habits.first_id + self._number
        self._number += 1
        if self._happens(self._habits.malformed):
            return self._malformed(number)
        name = self._random.choices(self._names, self._weights)[0]
        data = (
            {"url": f"https://example.com/offer/{number}?utm_source=newsletter"} if name == "clicked" else {}
        )
        return Shot(Kind.EVENT, name, event_body(name, number, int(time.time()), data))

    def _malformed(self, number: int) -> Shot:
        kind, bodies = self._random.choice(((Kind.NOT_JSON, _NOT_JSON), (Kind.NO_EVENT, _NO_EVENT)))
        body = self._random.choice(bodies)
        return Shot(kind, "", body % number if b"%d" in body else body)

    def _posted(self, shot: Shot) -> Shot:
        if shot.kind is Kind.EVENT:
            self._recent.append(shot)
        return shot

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


def mix(texts: Iterable[str]) -> Mapping[str, float]:
    """`["clicked=3,opened=7", "skipped"]` -> weights; without a number it is 1. No text at all is the typical mix.

    Raises:
        InvalidMixError: a weight is no positive number.
    """
    weights: dict[str, float] = {}
    for item in (part.strip() for text in texts for part in text.split(",")):
        name, _, weight = item.partition("=")
        try:
            value = float(weight or 1)
        except ValueError:
            value = math.nan
        if not name or not 0 < value < math.inf:
            raise InvalidMixError(f"'{item}' is no part of a mix: write name=weight, as in hard_bounced=5")
        weights[name] = weights.get(name, 0) + value
    return weights or TYPICAL
