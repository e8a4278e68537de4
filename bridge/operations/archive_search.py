"""Searches the archive: the first events that match, and how many there are of each name and day."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.amqp.encoded_header import EncodedHeader
from bridge.amqp.errors import session_errors_as_loss
from bridge.broker import archive, header_values
from bridge.broker.archive_selection import received_at
from bridge.broker.queue_counts import queue_exists
from bridge.broker.topology import Names
from bridge.operations.archive_scan import ArchiveProgress, ArchiveScan, wait_connected
from bridge.operations.queue_messages import connect_as_operator
from bridge.operations.replay import ReplayError
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.broker.archive import ArchivedEvent
    from bridge.broker.archive_selection import ArchiveSelection
    from bridge.settings.sections import Settings

MOST_DAYS: Final = 400
"""Days that are counted apart. The time is the receiver's, and a wrong clock must not fill the memory."""
MOST_NAMES: Final = 500
"""Names that are counted apart. Anybody with the webhook's token may invent names."""
OTHERS: Final = "(other names)"
"""Under this name the events of all further names are counted."""
NO_DAY: Final = ""
"""The day of events without a time, and of those beyond `MOST_DAYS`."""

_SUBJECT: Final = EncodedHeader("cloudEvents:subject")
_ANSWER_SECONDS: Final = 2.0
"""A stream sends the chunk that is asked for at once."""
_MILLISECONDS_A_DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event of the archive, without its body."""

    offset: int
    event: str
    """Its name."""
    message_id: str | None
    """The provider's."""
    received_at: int | None
    """Unix milliseconds."""
    size: int
    """Of the body, bytes."""


@dataclass(slots=True)
class ArchiveFindings:
    """What a search has found so far."""

    limit: int
    """How many events are listed at the most. All are counted."""
    first: list[FoundEvent] = field(default_factory=list)
    """In the archive's order: that in which RabbitMQ got them."""
    by_name: Counter[str] = field(default_factory=Counter)
    by_day: Counter[str] = field(default_factory=Counter)
    """Day of the reception in UTC, as `2026-05-12` -> number of events."""

    @property
    def total(self) -> int:
        return self.by_name.total()

    def add(self, events: Sequence[ArchivedEvent]) -> None:
        """Count these, and list them as far as the limit allows."""
        for event in events:
            received = header_values.unix_ms(received_at(event))
            self._count(self.by_name, event.routing_key, MOST_NAMES, OTHERS)
            self._count(self.by_day, _day(received), MOST_DAYS, NO_DAY)
            if len(self.first) < self.limit:
                message_id = _SUBJECT.text(event.properties)
                found = FoundEvent(event.offset, event.routing_key, message_id, received, len(event.body))
                self.first.append(found)

    @staticmethod
    def _count(counts: Counter[str], key: str, most: int, others: str) -> None:
        counts[key if key in counts or len(counts) < most else others] += 1


async def search(
    settings: Settings,
    selection: ArchiveSelection,
    findings: ArchiveFindings,
    progress: ArchiveProgress,
    moved: Callable[[], None],
    *,
    from_offset: int | None = None,
) -> None:
    """Read the archive up to its present end. After a lost connection it goes on where it was.

    Args:
        settings: RabbitMQ's URLs.
        selection: what to look for.
        findings: is kept up to date.
        progress: as well.
        moved: called after each step.
        from_offset: where to begin; None: at the start of the selection's time.

    Raises:
        ReplayError: there is no archive.
        BrokerUnavailableError: RabbitMQ cannot be reached at the start.
    """
    names = Names(settings.rabbitmq.prefix)
    link = Link(settings.rabbitmq, use="consume", metrics=Metrics())

    async def take(events: Sequence[ArchivedEvent]) -> None:
        findings.add(events)

    scan = ArchiveScan(names.archive, selection, progress, take=take, moved=moved, from_offset=from_offset)

    async def session(connection: AbstractConnection) -> None:
        link.opened()
        await scan.session(connection)

    # Whoever looks is told at once, not after the patience of a link.
    async with await connect_as_operator(settings.rabbitmq) as connection:
        with session_errors_as_loss(connection):
            await _require_archive(connection, names)
    async with background_task(link.run(session), name="archive.search") as reading:
        await wait_connected(link, reading)
        await reading


async def event_at(settings: Settings, offset: int) -> ArchivedEvent | None:
    """The event at this offset of the archive; None if it is not there any more, or not yet.

    Raises:
        ReplayError: there is no archive.
        BrokerUnavailableError: RabbitMQ cannot be reached, or was lost.
    """
    names = Names(settings.rabbitmq.prefix)
    async with await connect_as_operator(settings.rabbitmq) as connection:
        with session_errors_as_loss(connection):
            await _require_archive(connection, names)
            reading = archive.read_archive(connection, names.archive, begin=offset, last=offset)
            with suppress(TimeoutError):  # it is not there yet
                async with asyncio.timeout(_ANSWER_SECONDS), aclosing(reading) as found:
                    async for events in found:
                        return events[0]
    return None  # where it has been deleted, RabbitMQ starts at the oldest that is left


async def _require_archive(connection: AbstractConnection, names: Names) -> None:
    if not await queue_exists(connection, names.archive):
        raise ReplayError(
            f"there is no archive '{names.archive}'; see rabbitmq.prefix, or `bridge topology apply`"
        )


def _day(received_at: int | None) -> str:
    if received_at is None:
        return NO_DAY
    midnight = received_at // _MILLISECONDS_A_DAY * _MILLISECONDS_A_DAY
    return _text_of_day(midnight)


@lru_cache(maxsize=MOST_DAYS)
def _text_of_day(midnight: int) -> str:
    return datetime.fromtimestamp(midnight / 1000, UTC).date().isoformat()
