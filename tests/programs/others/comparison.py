"""What was answered, beside what arrived: the figures of one bridge under one fault, from the history of the run. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.history.checker import check
from tests.support.history.records import OK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.history.history import History, Post
    from tests.support.history.violations import Violation

UNREACHABLE: Final = "unreachable"
"""Nobody listened: the event was never handed over."""
CUT_OFF: Final = "cut off"
"""The connection broke before the answer."""
TOO_LATE: Final = "too late"
"""There was no answer while the provider waited."""
SLOW_SECONDS: Final = 5.0
"""A provider that waits no longer than this would have sent the event again."""
_NS: Final = 1_000_000_000
_LOST: Final = "lost-event"


@dataclass(frozen=True, slots=True)
class Row:
    """One bridge under one fault."""

    bridge: str
    fault: str
    posted: int
    accepted: int
    """Answered 200."""
    spooled: int
    """Of these, from a spool."""
    lost: int
    """Answered 200, and neither in the queue nor in the archive."""
    archived: int
    """Answered 200, and in the archive alone, from where it can be replayed."""
    duplicates: int
    """Copies of an event in the queue beyond its first."""
    refused: int
    """Answered with another status: the provider has to send the event again."""
    unanswered: int
    """Not answered: the provider has to send the event again."""
    gone: int
    """Refused or unanswered, and not in the queue: lost, too, with a provider that does not send again."""
    would_double: int
    """Refused or unanswered, and in the queue: there twice with a provider that sends again."""
    slow: int
    """Answered 200 after more than `SLOW_SECONDS`."""
    longest: float
    """Seconds that the slowest 200 took."""
    recovery: float
    """Seconds from the end of the fault to the last event after it that was not answered 200."""
    hangs: bool
    """Whether it still did not answer each event 200 at the end, long after the fault."""
    did_not_stop: int = 0
    """How often SIGTERM did not end it."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Status of an answer, or why there is none -> how many."""
    broken: tuple[str, ...] = ()
    """What else the checker of histories has found: an event that nobody has sent, an id with two bodies."""


def compare(
    history: History,
    *,
    bridge: str,
    fault: str,
    queue: str,
    healed: int,
    archive: str | None = None,
    hangs: bool = False,
    did_not_stop: int = 0,
) -> Row:
    """The figures.

    Args:
        history: of every POST and of every delivery, those from the archive, too.
        bridge: its name.
        fault: its name.
        queue: that is bound to every event.
        healed: when the fault ended, ns of CLOCK_MONOTONIC.
        archive: whose events are not lost, if the bridge has one.
        hangs: whether it did not recover.
        did_not_stop: how often SIGTERM did not end it.
    """
    accepted = [post for post in history.posts if post.result == OK]
    others = [post for post in history.posts if post.result != OK]
    arrived = _copies(history, queue)
    missing = {post.invoked.body for post in accepted} - arrived.keys()
    kept = missing & _copies(history, archive).keys() if archive else set[str]()
    violations = check(history)
    if sum(one.rule == _LOST for one in violations) != len(missing):
        raise AssertionError(f"the checker counts other events as lost than {len(missing)}: {violations[:3]}")
    after = [(post.invoked.at - healed) / _NS for post in others if post.invoked.at > healed]
    return Row(
        bridge=bridge,
        fault=fault,
        posted=len(history.posts),
        accepted=len(accepted),
        spooled=sum(post.ended is not None and post.ended.durability == "spooled" for post in accepted),
        lost=len(missing - kept),
        archived=len(kept),
        duplicates=arrived.total() - len(arrived),
        refused=sum(_refused(post) for post in others),
        unanswered=sum(not _refused(post) for post in others),
        gone=sum(post.invoked.body not in arrived for post in others),
        would_double=sum(post.invoked.body in arrived for post in others),
        slow=sum(_took(post) > SLOW_SECONDS for post in accepted),
        longest=max(map(_took, accepted), default=0.0),
        recovery=max(after, default=0.0),
        hangs=hangs,
        did_not_stop=did_not_stop,
        outcomes=dict(Counter(map(_outcome, history.posts))),
        broken=_broken(violations),
    )


def _copies(history: History, queue: str) -> Counter[str]:
    """Body -> how often the queue has it. One that comes again because its acknowledgement was lost is no copy."""
    found: Counter[str] = Counter()
    for delivered, _ in history.arrivals:
        if delivered.queue == queue and not (delivered.redelivered and delivered.body in found):
            found[delivered.body] += 1
    return found


def _refused(post: Post) -> bool:
    return post.ended is not None and post.ended.status != ""


def _outcome(post: Post) -> str:
    return "" if post.ended is None else post.ended.status or post.ended.why


def _took(post: Post) -> float:
    return 0.0 if post.ended is None else (post.ended.at - post.invoked.at) / _NS


def _broken(violations: list[Violation]) -> tuple[str, ...]:
    return tuple(str(one) for one in violations if one.rule != _LOST)
