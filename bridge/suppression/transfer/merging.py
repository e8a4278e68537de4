"""What a row of a file does to the entry of the same address and reason. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from bridge.suppression.transfer.rows import ImportedRow

    Key = tuple[str, str]
    """Address, reason."""

Outcome = Literal["added", "updated", "unchanged", "outdated"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("added", "updated", "unchanged", "outdated")


class Merged(NamedTuple):
    """What of an entry an import may change. Times are Unix seconds."""

    first_event_at: int
    last_event_at: int
    events: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What is on the list for some addresses, and what a person took off it. It changes with each row."""

    entries: dict[Key, Merged] = field(default_factory=dict)
    lifted_at: dict[Key, int] = field(default_factory=dict)
    """When a person has last taken it off the list, Unix seconds."""

    def without_ended(self, now: int) -> set[str]:
        """Forget the entries that have ended by `now` (Unix seconds). Returns their addresses."""
        ended = [
            key for key, one in self.entries.items() if one.expires_at is not None and one.expires_at <= now
        ]
        for key in ended:
            del self.entries[key]
        return {address for address, _ in ended}

    def put(self, row: ImportedRow, now: int) -> Outcome:
        """Put the row on the list, and say what that did.

        The same row again does nothing: the entry has the least and the greatest of what it was given, and no sum. A row
        that is not newer than the removal by a person does nothing either, and so does one that has ended by `now`.
        """
        key = row.address, row.reason
        lifted_at = self.lifted_at.get(key)
        if lifted_at is not None and row.last_event_at <= lifted_at:
            return "outdated"
        if row.expires_at is not None and row.expires_at <= now:
            return "outdated"
        before = self.entries.get(key)
        after = _merged(before, row)
        if after == before:
            return "unchanged"
        self.entries[key] = after
        return "added" if before is None else "updated"


def _merged(before: Merged | None, row: ImportedRow) -> Merged:
    if before is None:
        return Merged(row.first_event_at, row.last_event_at, row.events, row.expires_at)
    for_good = before.expires_at is None or row.expires_at is None
    return Merged(
        min(before.first_event_at, row.first_event_at),
        max(before.last_event_at, row.last_event_at),
        max(before.events, row.events),
        None if for_good else max(before.expires_at or 0, row.expires_at or 0),
    )
