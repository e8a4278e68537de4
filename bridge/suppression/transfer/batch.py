"""The rows of one transaction of an import: what they do to the entries, and the log of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.suppression.address_keys import domain_of
from bridge.suppression.current_state import CurrentState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.suppression.transfer.merging import Found, Key, Outcome
    from bridge.suppression.transfer.rows import ImportedRow


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
    now: int
    shared: Mapping[str, Any]
    """What all changes of the import have in common."""
    written: dict[Key, tuple[ImportedRow, bool, bool]] = field(default_factory=dict)
    """The row that each changed entry comes from; whether there was none before, and whether the row is all of it."""
    changes: list[dict[str, Any]] = field(default_factory=list)

    def put(self, row: ImportedRow) -> Outcome:
        outcome = self.found.put(row, self.now)
        if outcome in {"added", "updated"}:
            key = row.address, row.reason
            first, is_new, _ = self.written.get(key, (row, outcome == "added", True))
            self.written[key] = first, is_new, outcome == "added"
            self.state.put(key, self.found.entries[key].expires_at)
            self.changes.append(
                {
                    **self.shared,
                    "action": outcome,
                    "address": row.address,
                    "reason": row.reason,
                    "message_id": row.message_id,
                    "reasons": self._reasons(row.address),
                    "expires_at": self.found.entries[key].expires_at,
                }
            )
        return outcome

    def entries(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rows of the table `suppressions` that are changed, and those that are new, each ordered by their keys."""
        there: list[dict[str, Any]] = []
        new: list[dict[str, Any]] = []
        for key in sorted(self.written):
            (new if self.written[key][1] else there).append(self._entry(key))
        return there, new

    def _entry(self, key: Key) -> dict[str, Any]:
        row, _, is_all = self.written[key]
        first, last, count, expires_at = self.found.entries[key]
        return {
            "address": row.address,
            "reason": row.reason,
            "original": row.original,
            "first_event_at": first,
            "last_event_at": last,
            "count": count,
            "message_id": row.message_id,
            "evidence": row.evidence,
            "created_at": self.now if row.created_at is None else row.created_at,
            "updated_at": row.updated_at if is_all and row.updated_at is not None else self.now,
            "expires_at": expires_at,
            "domain": domain_of(row.address),
        }

    def _reasons(self, address: str) -> str:
        ends = self.state.ends[address]
        if len(ends) == 1 and not self.state.rules:  # as for most: it was just written, and is in force
            return next(iter(ends))
        return self.state.reasons(address, self.now)
