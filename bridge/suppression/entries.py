"""The entries of the suppression list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from sqlalchemy import Row


@dataclass(frozen=True, slots=True)
class Entry:
    """One address with one reason. Times are Unix seconds."""

    address: str
    """Normalised."""
    reason: Reason
    original: str
    """The address as it came first."""
    first_event_at: int
    last_event_at: int
    count: int
    """How many events and manual additions there were; a repeated event counts once."""
    message_id: str | None
    """The message whose event made the entry; None if a person made it."""
    evidence: bytes | None
    """The event that made the entry, as the provider sent it. Later ones are in the change log."""
    created_at: int
    updated_at: int
    expires_at: int | None
    """When it stops suppressing; None: never."""

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON: times in RFC 3339, the evidence as text."""
        return {
            "address": self.address,
            "reason": self.reason.value,
            "original": self.original,
            "first_event_at": rfc3339(self.first_event_at),
            "last_event_at": rfc3339(self.last_event_at),
            "count": self.count,
            "message_id": self.message_id,
            "evidence": None if self.evidence is None else self.evidence.decode(errors="replace"),
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "expires_at": None if self.expires_at is None else rfc3339(self.expires_at),
        }


def entry_of(row: Row[Any]) -> Entry:
    """The entry in a row of the table `suppressions`."""
    columns = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public way to a row's names, despite its underscore
    del columns["domain"]  # it is a part of the address
    return Entry(**(columns | {"reason": Reason(row.reason)}))
