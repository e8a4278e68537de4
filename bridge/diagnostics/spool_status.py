"""The state of the spool's folder, read from outside of the receiver. It blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.spool.listing import list_files

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.spool.set_aside_entries import SetAsideKind


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The sum of all files of the folder."""

    directory: str
    files: int
    entries: int
    bytes: int
    oldest_age: float | None
    """Seconds; None if the spool is empty."""
    left_behind: int
    """Events in files that no receiver uses: they wait for a receiver, or for `bridge spool drain`."""
    problems: tuple[str, ...]
    """Files that cannot be read, and why."""
    set_aside: tuple[SetAsideKind, ...] = ()
    """Events that RabbitMQ refuses, by file, reason and routing key."""


def read_spool_status(directory: Path) -> SpoolStatus:
    """Read the state. A missing folder counts as an empty spool.

    Raises:
        OSError: the folder cannot be read.
    """
    files = list_files(directory)
    readable = [(file, file.contents) for file in files if file.contents is not None]
    oldest = [contents.oldest for _, contents in readable if contents.oldest is not None]
    return SpoolStatus(
        directory=str(directory),
        files=len(files),
        entries=sum(contents.entries for _, contents in readable),
        bytes=sum(contents.bytes for _, contents in readable),
        oldest_age=max(0.0, time.time() - min(oldest) / 1000) if oldest else None,
        left_behind=sum(contents.entries for file, contents in readable if not file.in_use),
        problems=tuple(f"{file.path}: {file.problem}" for file in files if file.problem),
        set_aside=tuple(kind for file in files for kind in file.set_aside),
    )
