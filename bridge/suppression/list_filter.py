"""Which entries of the list are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, true

from bridge.suppression import model

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from bridge.suppression.policy import Reason


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Entries that fit all that is given; without anything: all. Times are Unix seconds."""

    reason: Reason | None = None
    domain: str | None = None
    """As `addresses.normalise_domain` has it. Its subdomains are others."""
    text: str | None = None
    """A part of the address, in any case."""
    changed_since: int | None = None
    """The entry was made or updated then or later."""
    expiring_before: int | None = None
    """The entry ends before this time, or has ended; one that is there for good never does."""

    def condition(self) -> ColumnElement[bool]:
        """The same for a query of the table `suppressions`."""
        stored = model.suppressions.c
        wanted: list[ColumnElement[bool]] = []
        if self.reason is not None:
            wanted.append(stored.reason == self.reason.value)
        if self.domain is not None:
            wanted.append(stored.domain == self.domain)
        if self.text is not None:
            wanted.append(stored.address.contains(self.text.lower(), autoescape=True))
        if self.changed_since is not None:
            wanted.append(stored.updated_at >= self.changed_since)
        if self.expiring_before is not None:
            wanted.append(stored.expires_at < self.expiring_before)
        return and_(true(), *wanted)


ALL: Final = ListFilter()
