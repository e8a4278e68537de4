"""The rules of the list: each address' entries, and every look at them, follow from some order of its events."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.history import order_search, policy_model
from tests.support.history.order_search import BUDGET, NEVER, Search, Step, Undecided
from tests.support.history.policy_model import Cause
from tests.support.history.violations import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.history import Published, Read
    from tests.support.history.policy_model import Policy
    from tests.support.history.records import ListEntry
    from tests.support.history.sent import Sent

_LATE: Final = 2**63
"""Ns: after any end."""


class AddressHistory(NamedTuple):
    """All that a history says of one address."""

    address: str
    events: tuple[Sent, ...]
    """Those that can suppress, and were not refused."""
    made: tuple[tuple[Published, Sent], ...] | None
    """The changes that were published, by their ids, with the event of each; None: nobody has listened."""
    reads: tuple[Read, ...]
    final: tuple[ListEntry, ...] | None
    """None: nobody has looked at the end."""
    final_line: int = 0

    @property
    def lines(self) -> tuple[int, ...]:
        made = [] if self.made is None else [published.line for published, _ in self.made]
        seen = [line for event in self.events for line in event.lines] + made
        return tuple(sorted(seen + [self.final_line] * (self.final is not None)))


def check_address(one: AddressHistory, policy: Policy) -> Iterator[Violation]:
    """The entry at the end first, then the looks during the run: where the end is wrong, they say nothing new."""
    wrong = list(_final(one, policy)) if one.final is not None else []
    wrong = wrong or list(_unpublished(one, policy))
    yield from wrong
    if wrong:
        return
    search = Search(tuple(_steps(one, policy)), one.made is not None, one.reads, one.final)
    if one.made is None and not one.reads:
        return
    try:
        if order_search.explained(search, budget=BUDGET):
            return
        yield _unexplained(one, search)
    except Undecided:
        yield Violation(
            "undecided",
            one.address,
            f"{one.address}: no order of its {len(one.events)} events was found, and none excluded; "
            "where the changes are listened to, they give the order",
            one.lines,
        )


def _steps(one: AddressHistory, policy: Policy) -> Iterator[Step]:
    if one.made is None:
        for event in one.events:
            yield Step(_cause(event, policy), event.first_sent, NEVER, event.accepted)
        return
    heard: dict[int, int] = {}
    for published, _ in one.made:
        known = heard.get(published.changed.id, published.changed.at)
        heard[published.changed.id] = min(known, published.changed.at)
    for published, event in one.made:
        yield Step(_cause(event, policy), event.first_sent, heard[published.changed.id])


def _cause(event: Sent, policy: Policy) -> Cause:
    return Cause(policy.reasons[event.name], event.event_at, event.message)


def _final(one: AddressHistory, policy: Policy) -> Iterator[Violation]:
    final = one.final or ()
    entries = {entry.reason: entry for entry in final}
    by_reason: dict[str, list[Sent]] = {}
    for event in one.events:
        by_reason.setdefault(policy.reasons[event.name], []).append(event)
    for reason in sorted(entries.keys() | by_reason.keys()):
        asking = by_reason.get(reason, [])
        lines = (*(line for event in asking for line in event.lines), one.final_line)
        found = _of_reason(one.address, reason, asking, entries.get(reason))
        if found is not None:
            rule, message = found
            yield Violation(rule, one.address, message, lines)


def _unpublished(one: AddressHistory, policy: Policy) -> Iterator[Violation]:
    """Each event that counts has its change."""
    if one.made is None:
        return
    told = {event.body for _, event in one.made}
    for event in one.events:
        if event.accepted and event.body not in told:
            yield Violation(
                "lost-change",
                one.address,
                f"{one.address}: {event.about} was answered 200, and no change was published for it",
                tuple(event.lines),
            )
            return
    counted = Counter(policy.reasons[event.name] for _, event in one.made)
    for entry in one.final or ():
        if entry.count != counted[entry.reason]:
            yield Violation(
                "lost-change",
                one.address,
                f"{one.address} is counted {entry.count} for {entry.reason}, and {counted[entry.reason]} changes were published",
                one.lines,
            )


def _of_reason(
    address: str, reason: str, asking: Sequence[Sent], entry: ListEntry | None
) -> tuple[str, str] | None:
    """What is wrong with an entry at the end: rule and message."""
    certain = [event for event in asking if event.accepted]
    if entry is None:
        if not certain:
            return None
        return "lost-entry", f"{address} is not on the list for {reason}, and {_named(certain)} answered 200"
    if not asking:
        return "unexplained-entry", f"{address} is on the list for {reason}, and no event asks for it"
    if entry.count < len(certain):
        return (
            "count-too-low",
            f"{address} is counted {entry.count} for {reason}, and {len(certain)} events were answered 200: {_named(certain)}",
        )
    if entry.count > len(asking):
        return (
            "count-too-high",
            f"{address} is counted {entry.count} for {reason}, and only {len(asking)} events ask for it: one was counted twice",
        )
    return _times(address, entry, certain, [event for event in asking if not event.accepted])


def _times(
    address: str, entry: ListEntry, certain: Sequence[Sent], possible: Sequence[Sent]
) -> tuple[str, str] | None:
    """Whether some of those that may have come, with all that must have, have these times and this cause."""
    first, last = entry.first_event_at, entry.last_event_at
    fitting = [event for event in possible if first <= event.event_at <= last]
    free = entry.count - len(certain)
    times = [event.event_at for event in certain]
    outside = [time for time in times if not first <= time <= last]
    needed = {first, last} - set(times)
    if (
        outside
        or len(fitting) < free
        or not needed <= {event.event_at for event in fitting}
        or len(needed) > free
    ):
        seen = sorted({event.event_at for event in (*certain, *possible)})
        return (
            "wrong-times",
            (
                f"{address} is on the list for {entry.reason} from {first} to {last}, counted {entry.count}, and no choice "
                f"of its events, which happened at {', '.join(map(str, seen))}, gives that"
            ),
        )
    if entry.message is not None:
        earliest = min((event.message for event in certain if event.event_at == first), default=None)
        others = {event.message for event in fitting if event.event_at == first}
        if entry.message != earliest and not (
            free and entry.message in others and (earliest is None or entry.message < earliest)
        ):
            return (
                "wrong-cause",
                f"{address} is on the list for {entry.reason} because of message {entry.message}, whose event is not its earliest",
            )
    return None


def _named(events: Sequence[Sent]) -> str:
    shown = ", ".join(event.about for event in events[:3]) + (", …" if len(events) > 3 else "")
    return f"{shown} was" if len(events) == 1 else f"{shown} were"


def _unexplained(one: AddressHistory, search: Search) -> Violation:
    """Name the first look that has no explanation; without the looks, the order itself has none."""
    if not order_search.explained(search._replace(reads=())):
        return Violation(
            "no-order",
            one.address,
            f"{one.address}: there is no order of its events that gives both its changes and its entries",
            one.lines,
        )
    reads = sorted(one.reads, key=lambda read: read.ended.at)
    bad = next(
        number
        for number in range(1, len(reads) + 1)
        if not order_search.explained(search._replace(reads=tuple(reads[:number])))
    )
    return _bad_read(one, search, reads[: bad - 1], reads[bad - 1])


def _bad_read(one: AddressHistory, search: Search, before: Sequence[Read], read: Read) -> Violation:
    shown = policy_model.said(read.ended.entries)
    alone = search._replace(reads=(read,))
    if order_search.explained(alone):
        then = before[-1]
        return Violation(
            "backward-read",
            one.address,
            f"{one.address}: after a look that showed {policy_model.said(then.ended.entries)}, one showed {shown}: "
            "the list has gone back",
            (*then.lines, *read.lines),
        )
    for rule, why, other in _at_other_times(read):
        if order_search.explained(search._replace(reads=(other,))):
            return Violation(rule, one.address, f"{one.address}: a look showed {shown}, {why}", read.lines)
    return Violation(
        "unexplained-read",
        one.address,
        f"{one.address}: a look showed {shown}, which the list is at no moment in any order of its events",
        read.lines,
    )


def _at_other_times(read: Read) -> Iterator[tuple[str, str, Read]]:
    """The same look, had it been made earlier or later: rule, what is wrong then, and the look."""
    later = read._replace(ended=replace(read.ended, at=_LATE))
    yield "early-read", "before the events that explain it were posted", later
    earlier = read._replace(invoked=replace(read.invoked, at=0))
    yield "stale-read", "although a change that is not in it had been published", earlier
