"""The rules of the changes: every one was published, once under its id, in order for each address, and says what is so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.history import policy_model
from tests.support.history.policy_model import NOTHING, Cause
from tests.support.history.records import domain_of
from tests.support.history.violations import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.history import History, Published
    from tests.support.history.policy_model import Policy
    from tests.support.history.records import Changed
    from tests.support.history.sent import Sent, SentEvents

_OF_EVENTS: Final = ("added", "updated")
"""What an event makes of an entry."""


class Traced(NamedTuple):
    """A change, as it was published first, and the event that has made it."""

    published: Published
    event: Sent | None
    """None: no event explains it."""


def first_published(changes: Sequence[Published]) -> dict[int, Published]:
    """Id -> the change as it came first, in the order of their coming."""
    found: dict[int, Published] = {}
    for one in changes:
        found.setdefault(one.changed.id, one)
    return found


def trace(changes: Sequence[Published], sent: SentEvents, policy: Policy) -> list[Traced]:
    """The event of each change. Args: changes: each id once."""
    return [Traced(one, _event_of(one.changed, sent, policy)) for one in changes]


def _event_of(changed: Changed, sent: SentEvents, policy: Policy) -> Sent | None:
    """By its id, else by its message: what nobody got an answer for has no id that we know."""
    known = sent.by_id.get(changed.event_id or "")
    if known is not None:
        return known
    fitting = (
        event
        for event in sent.by_message.get(changed.message or "", ())
        if not event.ids and policy.reasons.get(event.name) == changed.reason
    )
    return next(fitting, None)


def check_outbox(history: History) -> Iterator[Violation]:
    """Of the changes as messages: repeats are the same, their order is kept, and what the log has was published."""
    firsts = first_published(history.changes)
    for one in history.changes:
        first = firsts[one.changed.id]
        if _content(one.changed) != _content(first.changed):
            yield Violation(
                "altered-change",
                f"change {one.changed.id}",
                f"change {one.changed.id} was published twice, and says something else the second time",
                (first.line, one.line),
            )
    newest: dict[str, Published] = {}
    for one in firsts.values():
        last = newest.setdefault(one.changed.address, one)
        if one.changed.id < last.changed.id:
            yield Violation(
                "change-order",
                one.changed.address,
                f"{one.changed.address}: change {one.changed.id} was published after change {last.changed.id}",
                (last.line, one.line),
            )
        else:
            newest[one.changed.address] = one
    if history.has_change_listener:
        yield from _against_log(history, firsts)


def _against_log(history: History, firsts: dict[int, Published]) -> Iterator[Violation]:
    if history.final_changes is None:
        return
    final, line = history.final_changes
    log = dict(final.changes)
    for id_, address in log.items():
        if id_ not in firsts and domain_of(address) not in history.out_of_sight:
            yield Violation(
                "change-gap",
                address,
                f"{address}: change {id_} is in the log of the list, and was never published",
                (line,),
            )
    for id_, one in firsts.items():
        if id_ not in log and domain_of(one.changed.address) not in history.out_of_sight:
            yield Violation(
                "change-from-nowhere",
                one.changed.address,
                f"{one.changed.address}: change {id_} was published, and the log of the list does not have it",
                (one.line, line),
            )


def check_changes(address: str, traced: Sequence[Traced], policy: Policy) -> Iterator[Violation]:
    """Of the changes of one address, by their ids: each has its event, each event has one, and each says what is so then."""
    state = NOTHING
    seen: dict[str, Published] = {}
    for published, event in traced:
        changed, line = published
        what = f"{address}: change {changed.id} ({changed.action}, {changed.reason})"
        if event is None or changed.action not in _OF_EVENTS:
            yield Violation("unexplained-change", address, f"{what} has no event that explains it", (line,))
            continue
        if (wrong := _wrong_event(changed, event, policy)) is not None:
            yield Violation("unexplained-change", address, f"{what} {wrong}", (*event.lines, line))
            continue
        if (first := seen.setdefault(event.body, published)) is not published:
            yield Violation(
                "second-change",
                address,
                f"{what} is about {event.about}, as is change {first.changed.id}: an event was counted twice",
                (first.line, line),
            )
            continue
        if published.changed.at < event.first_sent:
            yield Violation(
                "early-change",
                address,
                f"{what} was published before its event was posted",
                (event.lines[0], line),
            )
        before = dict(state)
        state = policy_model.applied(state, Cause(policy.reasons[event.name], event.event_at, event.message))
        expected = "updated" if changed.reason in before else "added"
        if changed.action != expected:
            known = "is on the list already" if changed.reason in before else "is not on the list before it"
            yield Violation(
                "wrong-action",
                address,
                f"{what} should be `{expected}`: {address} {known} for that reason",
                (line,),
            )
        if changed.reasons is not None and not _plausible(changed, {reason for reason, _ in state}):
            yield Violation(
                "wrong-reasons",
                address,
                f"{what} says that the address is suppressed for {_listed(changed.reasons)}, and it is for "
                f"{_listed([reason for reason, _ in state])}",
                (line,),
            )


def _wrong_event(changed: Changed, event: Sent, policy: Policy) -> str | None:
    if event.refused:
        return f"is about {event.about}, every POST of which was refused"
    if policy.reasons.get(event.name) != changed.reason:
        return f"is about {event.about}, which is no reason for it"
    if event.address is not None and event.address != changed.address:
        return f"is about {event.about}, which was sent to {event.address}"
    return None


def _plausible(changed: Changed, reasons: set[str]) -> bool:
    """Two workers that add two reasons at one instant may each name only their own (docs/reference/messages.md)."""
    said = set(changed.reasons or ())
    return changed.reason in said and said <= reasons


def _content(changed: Changed) -> tuple[object, ...]:
    return (
        changed.action, changed.address, changed.reason, changed.event_id, changed.message, changed.reasons,
    )  # fmt: skip


def _listed(reasons: Sequence[str]) -> str:
    return ", ".join(sorted(reasons)) or "nothing"
