"""Proves from one history that every promise was kept, or says which were not.

docs/testing.md has the rules. The checker knows the documentation only: nothing of the bridge is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.history.arrival_rules import check_arrivals
from tests.support.history.change_rules import (
    Traced,
    check_changes,
    check_outbox,
    first_published,
    trace,
)
from tests.support.history.list_rules import AddressHistory, check_address
from tests.support.history.policy_model import DEFAULT_POLICY, Policy
from tests.support.history.records import domain_of
from tests.support.history.sent import SentEvents
from tests.support.history.violations import Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.support.history.history import History, Published, Read
    from tests.support.history.records import ListEntry
    from tests.support.history.sent import Sent

_LEFT: Final = {
    "outbox": "changes were never published",
    "dead letters": "messages are in the dead letters",
    "spool": "events are in the spool",
    "queue": "messages are in the bridge's own queues",
}
_SHOWN: Final = 5


def check(
    history: History, policy: Policy = DEFAULT_POLICY, *, dead_letters: Collection[str] = ()
) -> list[Violation]:
    """Look for whatever the history does not explain.

    Args:
        history: merged from all writers. What nobody has recorded is not judged: without a `Subscribed` no queue, without a
            `FinalList` not the list at the end, without `Leftover` nothing that is left.
        policy: which events suppress.
        dead_letters: ids of events that may be in the dead letters at the end; they need not be on the list.

    Returns:
        Every violation, in no order that means anything; empty: all promises were kept.
    """
    sent = SentEvents(history)
    return [
        *check_arrivals(history, sent),
        *check_outbox(history),
        *_check_list(history, sent, policy, frozenset(dead_letters)),
        *_check_leftovers(history, frozenset(dead_letters)),
    ]


def _check_list(
    history: History, sent: SentEvents, policy: Policy, excused: frozenset[str]
) -> Iterator[Violation]:
    listening = history.has_change_listener
    if not (listening or history.reads or history.final_list or history.changes):
        return
    traced: dict[str, list[Traced]] = {}
    by_id = sorted(first_published(history.changes).values(), key=lambda one: one.changed.id)
    for one in trace(by_id, sent, policy):
        traced.setdefault(one.published.changed.address, []).append(one)
    events = _by_address(sent, policy, excused)
    reads: dict[str, list[Read]] = {}
    for read in history.reads:
        reads.setdefault(read.invoked.address, []).append(read)
    final: dict[str, list[ListEntry]] = {}
    for entry in history.final_list[0].entries if history.final_list is not None else ():
        final.setdefault(entry.address, []).append(entry)
    for address in sorted(traced.keys() | events.keys() | reads.keys() | final.keys()):
        if domain_of(address) in history.out_of_sight:
            continue
        wrong = list(check_changes(address, traced.get(address, []), policy))
        yield from wrong
        made = _made(traced.get(address, [])) if listening and not wrong else None
        whole = AddressHistory(
            address,
            tuple(events.get(address, ())),
            made,
            tuple(reads.get(address, ())) if not wrong else (),
            tuple(final.get(address, ())) if history.final_list is not None else None,
            history.final_list[1] if history.final_list is not None else 0,
        )
        yield from check_address(whole, policy)


def _made(traced: list[Traced]) -> tuple[tuple[Published, Sent], ...]:
    return tuple((one.published, one.event) for one in traced if one.event is not None)


def _by_address(sent: SentEvents, policy: Policy, excused: frozenset[str]) -> dict[str, list[Sent]]:
    """The events that suppress. One that may be a dead letter may be missing, too."""
    found: dict[str, list[Sent]] = {}
    for event in sent.by_body.values():
        if event.address is None or event.refused or event.name not in policy.reasons:
            continue
        if event.ids & excused:
            event.accepted = False
        found.setdefault(event.address, []).append(event)
    return found


def _check_leftovers(history: History, excused: frozenset[str]) -> Iterator[Violation]:
    for left, line in history.leftovers.values():
        what = [one for one in left.what if left.where != "dead letters" or one not in excused]
        if what:
            shown = ", ".join(what[:_SHOWN]) + (", …" if len(what) > _SHOWN else "")
            rule = {"outbox": "unpublished-change", "dead letters": "dead-letter"}.get(
                left.where, f"left-in-{left.where}"
            )
            yield Violation(rule, left.where, f"at the end {len(what)} {_LEFT[left.where]}: {shown}", (line,))
