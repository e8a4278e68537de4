"""How the suppression list is shown: its entries, page by page, and the changes of one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.cli.console import BAD_USAGE, fail
from bridge.cli.lists import Head
from bridge.cli.times import time_cell
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.cli.lists import Cell
    from bridge.suppression.changes import Change
    from bridge.suppression.entries import Entry
    from bridge.suppression.store import Store

PAGE: Final = 500
"""Entries that are asked for at once."""

# Where the terminal is narrow a reason stays one word, and a date one line.
_REASON: Final = Head("Reason", narrowest=11)
ENTRY: Final = (
    Head("Address", whole=True),
    _REASON,
    "Count",
    Head("Last, UTC", narrowest=10),
    "Expires",
)
CHANGE: Final = (
    Head("At, UTC", narrowest=10),
    "What",
    _REASON,
    "Who",
    "Note",
    Head("Message", whole=True),
    Head("Event", whole=True),
)


class Listed(NamedTuple):
    """What `list` has shown."""

    shown: int
    total: int
    following: str | None
    """For `--after`; None where nothing follows."""


class Wanted(NamedTuple):
    """What `list` is asked for."""

    reason: Reason | None
    most: int | None
    after: tuple[str, str] | None
    """Address and reason of the entry before."""


async def show_each(store: Store, wanted: Wanted, show: Callable[[Entry], None]) -> Listed:
    """Page by page: the list may be longer than the memory."""
    reason, most, after = wanted
    shown = 0
    more = True
    last = after
    while more and (most is None or shown < most):
        size = PAGE if most is None else min(PAGE, most - shown)
        entries = await store.entries(reason=reason, limit=size + 1, after=last)
        more = len(entries) > size
        for entry in entries[:size]:
            show(entry)
            last = (entry.address, entry.reason.value)
            shown += 1
    if after is None and not more:
        return Listed(shown, shown, None)  # as many as there were, whatever comes meanwhile
    counts = await store.count_by_reason()
    total = sum(counts.values()) if reason is None else counts[reason]
    return Listed(shown, total, f"{last[1]}:{last[0]}" if more and last is not None else None)


def place(text: str) -> tuple[str, str]:
    """`complaint:jane@example.org`, as `Listed.following` has it, for `Wanted.after`."""
    reason, colon, address = text.partition(":")
    if not colon or reason not in set(Reason):
        fail(
            f"--after is written as REASON:ADDRESS, as `next` of the list before; '{text}' is not", BAD_USAGE
        )
    return address, reason


def row(entry: Entry) -> tuple[str | int | Cell, ...]:
    expires = "never" if entry.expires_at is None else time_cell(entry.expires_at)
    return entry.address, entry.reason.value, entry.count, time_cell(entry.last_event_at), expires


def row_of_change(change: Change) -> tuple[str | int | Cell, ...]:
    return (
        time_cell(change.at),
        change.action,
        change.reason.value,
        change.actor,
        change.note,
        change.message_id or "",
        change.event_id or "",
    )
