"""The numbers of the overview and of the subscribers' page, ready for their tables. None: not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.diagnostics.role_status import spooled
from bridge.worker.subscriber_watch import IDLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.console.trends import Trends
    from bridge.diagnostics.status import AnswerCount, EventCount, Status
    from bridge.diagnostics.subscriber_status import SubscriberStatus

_BREAKERS: Final = ("closed: calls go through", "half open: one call is tried", "open: workers wait")
"""By the value of the metric."""
_ANSWERS: Final = {
    "confirmed": "200, confirmed by RabbitMQ",
    "spooled": "200, in the spool",
    "quarantined": "200, in the quarantine",
    "probe": "200, a probe",
    "400": "400, not JSON",
    "404": "404, wrong token",
    "405": "405, wrong method",
    "408": "408, body too slow",
    "413": "413, too large",
    "503": "503, neither place took it",
}
_STEADY: Final = 0.5
"""Messages a minute: a depth that changes by less is steady."""
_FEW: Final = 60.0
"""Seconds without consuming that are no reason to look."""

_ORDER: Final = ("bad", "warn", "quiet", "good")


class QueueRow(NamedTuple):
    """One of the bridge's own queues."""

    name: str
    missing: bool
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    trend: str
    """In words."""
    is_archive: bool
    """It is the stream: what is in it is kept, and does not wait."""


class SubscriberRow(NamedTuple):
    """One subscriber."""

    of: SubscriberStatus
    kind: str
    """`good`, `warn`, `bad` or `quiet`."""
    state: str
    """In a few words."""
    what_to_do: str
    """Empty: nothing."""
    trend: str
    rate: float | None
    """Messages a second, over the last minute."""
    consumed_at: float | None
    """Unix seconds."""


def total_rate(counted: Iterable[EventCount | AnswerCount]) -> float | None:
    """All of them a second; None: nothing can be compared yet."""
    rates = [one.rate for one in counted]
    return None if None in rates else sum(rate for rate in rates if rate is not None)


def answer_meaning(label: str) -> str:
    """What an answer of the receivers is."""
    return _ANSWERS.get(label, label)


def breakers_of(status: Status) -> dict[str, str]:
    """Dependency -> the state of its circuit breaker, in words."""
    return {
        name: _BREAKERS[min(int(state), len(_BREAKERS) - 1)]
        for name, state in sorted(status.breakers.items())
    }


def in_spools(status: Status) -> int | None:
    """By the folder here or by the receivers, whoever knows of more; None: nobody knows, as there is no file here."""
    by_receivers, _ = spooled(status.roles)
    known = [status.spool.entries] if status.spool is not None and status.spool.files else []
    known += [int(sum(by_receivers.values()))] if by_receivers else []
    return max(known, default=None)


def queue_rows(status: Status, trends: Trends, archive: str) -> list[QueueRow]:
    """The bridge's own queues: those of subscribers have a page."""
    of_others = {name for one in status.subscribers for name in (one.queue, one.dead_queue)}
    return [
        QueueRow(
            queue.name,
            bool(queue.problem),
            queue.ready,
            queue.unacknowledged,
            queue.consumers,
            trend_of(queue.name, queue.ready, trends),
            queue.name == archive,
        )
        for queue in status.broker.queues
        if queue.name not in of_others
    ]


def trend_of(queue: str, ready: int | None, trends: Trends) -> str:
    """How the number of messages in a queue changes, in words; empty: not known yet."""
    change = trends.depth_change(queue)
    if ready is None or change is None:
        return ""
    if abs(change) < _STEADY:
        return "steady" if ready else "empty"
    return f"{'grows' if change > 0 else 'shrinks'} by {max(abs(change), 1):,.0f} a minute"


def subscriber_rows(status: Status, trends: Trends) -> list[SubscriberRow]:
    """The subscribers, those to look after first."""
    rows = [_subscriber_row(one, trends) for one in status.subscribers]
    return sorted(rows, key=lambda row: (_ORDER.index(row.kind), row.of.queue))


def _subscriber_row(one: SubscriberStatus, trends: Trends) -> SubscriberRow:
    kind, state, what_to_do = _subscriber_state(one)
    seen = [at for at in (one.consumed_at, trends.consumed_at(one.queue)) if at is not None]
    return SubscriberRow(
        of=one,
        kind=kind,
        state=state,
        what_to_do=what_to_do,
        trend=trend_of(one.queue, one.ready, trends),
        rate=trends.consumed_rate(one.queue),
        consumed_at=max(seen, default=None),
    )


def _subscriber_state(one: SubscriberStatus) -> tuple[str, str, str]:
    """Kind, state and what to do."""
    if not one.there:
        return (
            "bad",
            "its queue is missing",
            "Run `bridge topology apply`; a worker declares it, too, when it starts.",
        )
    if one.ready is None:
        return "quiet", "not known: RabbitMQ does not answer", ""
    if one.consumers == 0:
        kind = "bad" if one.ready else "warn"
        return (
            kind,
            "nobody consumes",
            "Start that service, or run `bridge subscribers remove` if it is gone for good.",
        )
    if one.idle is not None and one.idle >= _FEW:
        kind = "bad" if one.idle >= IDLE_SECONDS else "warn"
        return (
            kind,
            "connected, but acknowledges nothing",
            "See that service's log: it holds messages, or hangs.",
        )
    if one.dead_letters:
        return (
            "warn",
            "consumes, but has dead letters",
            f"See why that service has rejected what is in {one.dead_queue}.",
        )
    return "good", "consumes" if one.ready or one.unacknowledged else "has consumed everything", ""
