"""How the suppression list is shown: its entries, and the changes of one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.cli.console import BAD_USAGE, fail
from bridge.cli.lists import Head
from bridge.cli.times import time_cell
from bridge.suppression.address_keys import PLAIN
from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.cli.lists import Cell
    from bridge.operations.suppressions import Addition, Removal
    from bridge.suppression.change import Change
    from bridge.suppression.entries import Entry
    from bridge.suppression.reading import StateThen

# Where the terminal is narrow a reason stays one word, and a date one line.
_REASON: Final = Head("Reason", min_width=11)
ENTRY: Final = (
    Head("Address", whole=True),
    _REASON,
    "Count",
    Head("Last, UTC", min_width=10),
    "Expires",
)
CHANGE: Final = (
    Head("At, UTC", min_width=10),
    "What",
    _REASON,
    "Who",
    "Note",
    Head("Message", whole=True),
    Head("Event", whole=True),
)


def place(text: str) -> tuple[str, str]:
    """`complaint:jane@example.org`, as `Listed.following` has it, for `ListQuery.after`."""
    reason, colon, address = text.partition(":")
    if not colon or reason not in set(Reason):
        fail(
            f"--after is written as REASON:ADDRESS, as `next` of the list before; '{text}' is not", BAD_USAGE
        )
    return address, reason


def reasons(entries: Iterable[Entry]) -> str:
    return ", ".join(entry.reason.value for entry in entries)


def addition(address: str, done: Addition) -> str:
    """What `add` has done, or would do, in one line."""
    if done.entry is not None:
        return f"{done.entry.address} is suppressed ({reasons(done.in_force)})"
    stands = f" ({reasons(done.in_force)})"
    if any(entry.reason is Reason.MANUAL for entry in done.in_force):
        return f"{PLAIN.written(address)} is on the list already{stands}"
    also = f"; it is suppressed already{stands}" if done.in_force else ""
    return f"would add {PLAIN.written(address)} ({Reason.MANUAL}){also}"


def addition_document(address: str, done: Addition) -> dict[str, Any]:
    if done.entry is not None:
        return done.entry.document() | {"reasons": [entry.reason.value for entry in done.in_force]}
    before = [entry.reason for entry in done.in_force]
    return {
        "dry_run": True,
        "address": PLAIN.written(address),
        "added": Reason.MANUAL not in before,
        "reasons": sorted({*before, Reason.MANUAL}),
    }


def removal(done: Removal, *, dry_run: bool) -> str:
    """What `remove` has done, or would do, in one line."""
    address, removed = done.removed[0].address, reasons(done.removed)
    if dry_run:
        still = f"; it would still be suppressed ({reasons(done.left)})" if done.left else ""
        return f"would remove {address} ({removed}){still}"
    if done.left:
        return f"{address} is still suppressed ({reasons(done.left)}); removed: {removed}"
    return f"{address} is no longer suppressed ({removed})"


def removal_document(done: Removal, *, dry_run: bool) -> dict[str, Any]:
    document = {
        "address": done.removed[0].address,
        "removed": [entry.document() for entry in done.removed],
        "still_suppressed": bool(done.left),
        "reasons": [entry.reason.value for entry in done.left],
    }
    return {"dry_run": True} | document if dry_run else document


def state(address: str, at: int, then: StateThen) -> str:
    """Whether it was suppressed at a time, in one line."""
    when = f"at {rfc3339(at)}"
    if then.reasons:
        return f"{address} was suppressed {when} ({', '.join(then.reasons)})"
    return f"{address} was not suppressed {when}" + ("" if then.change else ": it had never been on the list")


def state_document(address: str, at: int, then: StateThen) -> dict[str, Any]:
    return {
        "address": PLAIN.written(address),
        "at": rfc3339(at),
        "suppressed": bool(then.reasons),
        "reasons": [reason.value for reason in then.reasons],
        "change": then.change,
    }


def row(entry: Entry) -> tuple[str | int | Cell, ...]:
    expires = "never" if entry.expires_at is None else time_cell(entry.expires_at)
    return entry.address, entry.reason.value, entry.count, time_cell(entry.last_event_at), expires


def row_of_change(change: Change) -> tuple[str | int | Cell, ...]:
    return (
        time_cell(change.at),
        change.action,
        "" if change.reason is None else change.reason.value,
        change.actor,
        change.note,
        change.message_id or "",
        change.event_id or "",
    )
