"""What a spool file stores: an entry for each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bridge.telemetry.trace_context import TraceContext

OVERHEAD: Final = 64
"""Bytes that an entry takes besides its body: row, page and index, rounded up."""


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """An event that is fsynced here, and not yet confirmed by RabbitMQ."""

    id: int
    """Ascending in order of arrival."""
    received_at: int
    """Unix milliseconds."""
    body: bytes
    """The provider's bytes."""
    trace: TraceContext | None = None
    """The trace that its message belongs to."""


def size_of(entry: SpoolEntry) -> int:
    """Bytes that an entry takes; `spool.max_bytes` limits their sum."""
    return len(entry.body) + OVERHEAD


@dataclass(frozen=True, slots=True)
class SpoolContents:
    """How many entries a file has, and how large they are."""

    entries: int
    bytes: int
    oldest: int | None
    """When the oldest entry was received, Unix milliseconds."""
    newest_id: int
    """0 if it is empty."""
