"""Which of the archived events are meant: by name, by the provider's message id, by when they were received."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bridge.amqp.encoded_header import Header
from bridge.broker.messages import RECEIVED_AT_HEADER
from bridge.events import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.archive import Archived

CLOCK_SKEW: Final = timedelta(minutes=1)
"""By so much the receiver's clock, which writes `received-at`, may be ahead of RabbitMQ's, which dates the chunks."""

_RECEIVED_AT: Final = Header(RECEIVED_AT_HEADER)
_SUBJECT: Final = Header("cloudEvents:subject")
_AGO: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class InvalidMomentError(ValueError):
    """A text that says no time."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for. All that is said must hold; of several names or ids, one."""

    names: frozenset[str] = frozenset()
    """In our spelling; none means every event."""
    message_ids: frozenset[str] = frozenset()
    """The provider's; none means every message."""
    since: datetime | None = None
    until: datetime | None = None
    """Received at this time or later; and before that one."""

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        message_ids: Iterable[str],
        *,
        since: datetime | None,
        until: datetime | None,
    ) -> Selection:
        """A selection by names in either spelling."""
        return cls(frozenset(map(canonical_name, names)), frozenset(message_ids), since, until)

    def takes(self, event: Archived) -> bool:
        """Whether this event is meant. Where a time is asked for, one that says none is not."""
        if self.names and canonical_name(event.routing_key) not in self.names:
            return False
        if self.message_ids and _SUBJECT.text(event.properties) not in self.message_ids:
            return False
        if self.since is None and self.until is None:
            return True
        received = _RECEIVED_AT.number(event.properties)
        return (
            received is not None
            and (self.since is None or received >= _milliseconds(self.since))
            and (self.until is None or received < _milliseconds(self.until))
        )

    @property
    def archived_since(self) -> datetime | None:
        """From when on the archive may hold them. There is no such end: a spool may deliver any time later."""
        return None if self.since is None else self.since - CLOCK_SKEW


def moment(text: str, *, now: datetime) -> datetime:
    """`2h` (s, m, h, d or w ago), or ISO 8601 as in `2026-05-02T10:00:00Z`; without a zone it is UTC.

    Raises:
        InvalidMomentError: it is neither.
    """
    if found := _AGO.fullmatch(text):
        try:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            raise InvalidMomentError(f"'{text}' is longer ago than there are dates") from None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidMomentError(
            f"'{text}' is no time: write 90s, 30m, 2h, 7d (ago), or 2026-05-02T10:00:00Z"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
