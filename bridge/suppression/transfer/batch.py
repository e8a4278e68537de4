"""The rows of one transaction of an import: what they do to the entries, and the log of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bridge.suppression.address_keys import domain_of
from bridge.suppression.current_state import CurrentState

if TYPE_CHECKING:
    from bridge.suppression.transfer.merging import Found, Key, Outcome
    from bridge.suppression.transfer.rows import ImportedRow


class NewEntry(NamedTuple):
    """A row of the table `suppressions`, with its columns' names."""

    address: str
    reason: str
    original: str
    first_event_at: int
    last_event_at: int
    count: int  # type: ignore[assignment]  # the column's name, which hides the method of tuples
    message_id: str | None
    evidence: bytes | None
    created_at: int
    updated_at: int
    expires_at: int | None
    domain: str


class NewChange(NamedTuple):
    """A row of the table `changes`, with its columns' names."""

    at: int
    actor: str
    note: str
    published_at: int | None
    action: str
    address: str
    reason: str
    message_id: str | None
    reasons: str
    expires_at: int | None


class Origin(NamedTuple):
    """What all changes of one import have in common."""

    at: int
    actor: str
    note: str
    published_at: int | None


def state_of(found: Found, rules: dict[str, bool]) -> CurrentState:
    """The same as whoever else changes the list has it. Args: `rules`: of the allow-list, as there."""
    state = CurrentState(rules=rules)
    for key, entry in found.entries.items():
        state.put(key, entry.expires_at)
    return state


@dataclass(slots=True)
class Batch:
    """The rows of one transaction, as they come to stand on the list."""

    found: Found
    state: CurrentState
    """The same, with the rules of the allow-list. It changes with each row, too."""
    origin: Origin
    written: dict[Key, tuple[ImportedRow, bool, bool]] = field(default_factory=dict)
    """The row that each changed entry comes from; whether there was none before, and whether the row is all of it."""
    changes: list[NewChange] = field(default_factory=list)

    def put(self, row: ImportedRow) -> Outcome:
        outcome = self.found.put(row, self.origin.at)
        if outcome in {"added", "updated"}:
            key = row.address, row.reason
            first, is_new, _ = self.written.get(key, (row, outcome == "added", True))
            self.written[key] = first, is_new, outcome == "added"
            expires_at = self.found.entries[key].expires_at
            self.state.put(key, expires_at)
            reasons = self._reasons(row.address)
            self.changes.append(NewChange(*self.origin, outcome, *key, row.message_id, reasons, expires_at))
        return outcome

    def entries(self) -> tuple[list[NewEntry], list[NewEntry]]:
        """The rows of the table `suppressions` that are changed, and those that are new, each ordered by their keys."""
        there: list[NewEntry] = []
        new: list[NewEntry] = []
        for key in sorted(self.written):
            (new if self.written[key][1] else there).append(self._entry(key))
        return there, new

    def _entry(self, key: Key) -> NewEntry:
        row, _, is_all = self.written[key]
        first, last, count, expires_at = self.found.entries[key]
        now = self.origin.at
        return NewEntry(
            row.address,
            row.reason,
            row.original,
            first,
            last,
            count,
            row.message_id,
            row.evidence,
            now if row.created_at is None else row.created_at,
            row.updated_at if is_all and row.updated_at is not None else now,
            expires_at,
            domain_of(row.address),
        )

    def _reasons(self, address: str) -> str:
        ends = self.state.ends[address]
        if len(ends) == 1 and not self.state.rules:  # as for most: it was just written, and is in force
            return next(iter(ends))
        return self.state.reasons(address, self.origin.at)
