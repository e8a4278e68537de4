"""The rows of one transaction of an import: what they do to the entries, and the log of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.suppression.address_keys import domain_of
from bridge.suppression.current_state import CurrentState
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.suppression.allow_list import AllowRule
    from bridge.suppression.transfer.merging import Found, Key, Outcome
    from bridge.suppression.transfer.rows import ImportedRow


def state_of(found: Found) -> CurrentState:
    """The same as whoever else changes the list has it."""
    state = CurrentState()
    for key, entry in found.entries.items():
        state.put(key, entry.expires_at)
    return state


@dataclass(slots=True)
class Batch:
    """The rows of one transaction, as they come to stand on the list."""

    found: Found
    now: int
    shared: Mapping[str, Any]
    """What all changes of the import have in common."""
    rules: dict[str, AllowRule] = field(default_factory=dict)
    """Address -> the rule of the allow-list that holds for it."""
    written: dict[Key, tuple[ImportedRow, bool, bool]] = field(default_factory=dict)
    """The row that each changed entry comes from; whether there was none before, and whether the row is all of it."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    _state: CurrentState = field(init=False)

    def __post_init__(self) -> None:
        self._state = state_of(self.found)

    def put(self, row: ImportedRow) -> Outcome:
        outcome = self.found.put(row, self.now)
        if outcome in {"added", "updated"}:
            key = row.address, row.reason
            first, is_new, _ = self.written.get(key, (row, outcome == "added", True))
            self.written[key] = first, is_new, outcome == "added"
            self._state.put(key, self.found.entries[key].expires_at)
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
        ends = self._state.ends[address]
        # Most addresses have one entry, which was just written, and is in force.
        reasons = next(iter(ends)) if len(ends) == 1 else self._state.reasons(address, self.now)
        rule = self.rules.get(address)
        if rule is None:
            return reasons
        return ",".join(one for one in reasons.split(",") if one and not rule.allows(Reason(one)))
