"""Selects archived events by name, by the provider's message id, and by the time of reception."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bridge.amqp.encoded_header import EncodedHeader
from bridge.broker.messages import RECEIVED_AT_HEADER
from bridge.events import canonical_name
from bridge.timestamps import seconds_of_age

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.archive import ArchivedEvent

CLOCK_SKEW: Final = timedelta(minutes=1)
"""How far the receiver's clock (`received-at`) may be ahead of RabbitMQ's clock (chunks)."""

_RECEIVED_AT: Final = EncodedHeader(RECEIVED_AT_HEADER)
_SUBJECT: Final = EncodedHeader("cloudEvents:subject")


class InvalidTimeError(ValueError):
    """The text is not a time."""


@dataclass(frozen=True, slots=True)
class ArchiveSelection:
    """Conditions that must all hold. Of several names or ids, one must match."""

    names: frozenset[str] = frozenset()
    """Canonical names; empty: every event."""
    message_ids: frozenset[str] = frozenset()
    """The provider's; empty: every message."""
    since: datetime | None = None
    until: datetime | None = None
    """Received at `since` or later, and before `until`."""

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        message_ids: Iterable[str],
        *,
        since: datetime | None,
        until: datetime | None,
    ) -> ArchiveSelection:
        """A selection by names in any spelling."""
        return cls(frozenset(map(canonical_name, names)), frozenset(message_ids), since, until)

    def takes(self, event: ArchivedEvent) -> bool:
        """Whether the event is selected. With a time condition, an event without a time is not."""
        if self.names and canonical_name(event.routing_key) not in self.names:
            return False
        if self.message_ids and _SUBJECT.text(event.properties) not in self.message_ids:
            return False
        if self.since is None and self.until is None:
            return True
        received = received_at(event)
        return (
            received is not None
            and (self.since is None or received >= _milliseconds(self.since))
            and (self.until is None or received < _milliseconds(self.until))
        )

    @property
    def archived_since(self) -> datetime | None:
        """When the first of them may have been archived. The last may come at any later time, from a spool."""
        return None if self.since is None else self.since - CLOCK_SKEW


def received_at(event: ArchivedEvent) -> int | None:
    """When the bridge received it, Unix milliseconds; None if it does not say."""
    return _RECEIVED_AT.number(event.properties)


def parse_time(text: str, *, now: datetime) -> datetime:
    """Parse `2h` (s, m, h, d or w ago) or ISO 8601, as in `2026-05-02T10:00:00Z`. Without a zone it is UTC.

    Raises:
        InvalidTimeError: the text is neither.
    """
    if (ago := seconds_of_age(text)) is not None:
        try:
            return now - timedelta(seconds=ago)
        except OverflowError:
            raise InvalidTimeError(f"'{text}' is too long ago") from None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidTimeError(
            f"'{text}' is not a time: write 90s, 30m, 2h, 7d (ago), or 2026-05-02T10:00:00Z"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
