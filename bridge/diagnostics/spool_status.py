"""The spool's folder, looked at from outside. Blocking."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.spool.folder import SpoolError, in_use, others
from bridge.spool.refused_entries import look as look_aside
from bridge.spool.spool_file import peek

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.spool.refused_entries import AsideSeen


@dataclass(frozen=True, slots=True)
class SpoolSeen:
    """All files of the folder together."""

    directory: str
    files: int
    entries: int
    bytes: int
    oldest_age: float | None
    """Seconds; None when nothing waits."""
    left_behind: int
    """Events in files that no receiver has: they wait for a receiver, or for `bridge spool drain`."""
    problems: tuple[str, ...]
    """Files that cannot be read, and why."""
    set_aside: tuple[AsideSeen, ...] = ()
    """What RabbitMQ refuses of it, by file, reason and routing key."""


def look(directory: Path) -> SpoolSeen:
    """Count what waits. A folder that is not there yet is an empty one.

    Raises:
        OSError: the folder cannot be read.
    """
    entries = size = left = 0
    oldest: list[int] = []
    problems: list[str] = []
    aside: list[AsideSeen] = []
    files = others(directory, ())
    for path in files:
        try:
            contents = peek(path)
            busy = in_use(path)
            aside += look_aside(path)
        except SpoolError as error:
            problems.append(str(error))
            continue
        entries += contents.entries
        size += contents.bytes
        left += 0 if busy else contents.entries
        if contents.oldest is not None:
            oldest.append(contents.oldest)
    return SpoolSeen(
        directory=str(directory),
        files=len(files),
        entries=entries,
        bytes=size,
        oldest_age=max(0.0, time.time() - min(oldest) / 1000) if oldest else None,
        left_behind=left,
        problems=tuple(problems),
        set_aside=tuple(aside),
    )
