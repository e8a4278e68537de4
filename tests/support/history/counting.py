"""What a history says in numbers, for tables: what was answered, and what arrived."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.history.records import OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.history.history import History, Post

NO_ANSWER: Final = "no answer"
_NS: Final = 1e9


@dataclass(slots=True)
class Counts:
    """All of it, or a part."""

    posted: int = 0
    accepted: int = 0
    """Different events that were answered 200."""
    durability: dict[str, int] = field(default_factory=dict)
    """Of each 200 -> how many."""
    refused: dict[str, int] = field(default_factory=dict)
    """Another status, or `no answer` -> how many."""
    seconds: list[float] = field(default_factory=list)
    """How long each answer took, in order."""
    arrived: int = 0
    """Of the events that were answered 200, how many have come from a queue."""
    duplicates: int = 0
    """Messages beyond one for each answer 200, in all queues: a publish whose confirm was lost, a repeat whose answer was."""
    unasked: int = 0
    """Events that have come although nobody got a 200 for them."""

    @property
    def answered_200(self) -> int:
        """Answers 200, repeats included."""
        return sum(self.durability.values())

    @property
    def unanswered(self) -> int:
        return self.refused.get(NO_ANSWER, 0)

    @property
    def otherwise_answered(self) -> int:
        return sum(self.refused.values()) - self.unanswered

    def quantile(self, share: float) -> float:
        """The time within which this share of the answers came; 0 if there were none."""
        return (
            self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * share))] if self.seconds else 0.0
        )

    @property
    def worst(self) -> float:
        return self.quantile(1.0)


def counts(history: History) -> Counts:
    """Count what is in a history."""
    found = count_posts(history.posts)
    accepted = {post.invoked.body for post in history.posts if post.result == OK}
    arrived = {one.delivered.body for one in history.arrivals}
    answers = Counter(post.invoked.body for post in history.posts if post.result == OK)
    copies = Counter(
        (one.delivered.queue, one.delivered.body) for one in history.arrivals if not one.delivered.redelivered
    )
    found.arrived = len(accepted & arrived)
    found.unasked = len(arrived - accepted)
    found.duplicates = sum(max(0, count - max(1, answers[body])) for (_, body), count in copies.items())
    return found


def count_posts(posts: Sequence[Post]) -> Counts:
    """Count answers."""
    found, accepted = Counts(posted=len(posts)), set()
    durability, refused = Counter[str](), Counter[str]()
    for invoked, ended, _ in posts:
        if ended is None or not ended.status:
            refused[NO_ANSWER] += 1
            continue
        found.seconds.append((ended.at - invoked.at) / _NS)
        if ended.result == OK:
            accepted.add(invoked.body)
            durability[ended.durability] += 1
        else:
            refused[ended.status] += 1
    found.accepted = len(accepted)
    found.durability, found.refused = dict(durability), dict(refused)
    found.seconds.sort()
    return found
