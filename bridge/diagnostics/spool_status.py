"""The state of the spool's folder, read from outside of the receiver. It blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.spool.folder import SpoolError, in_use, other_files
from bridge.spool.refused_entries import read_refused as look_aside
from bridge.spool.spool_file import read_contents

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.spool.refused_entries import RefusedKind


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
    set_aside: tuple[RefusedKind, ...] = ()
    """Events that RabbitMQ refuses, by file, reason and routing key."""


def read_spool_status(directory: Path) -> SpoolStatus:
    """Read the state. A missing folder counts as an empty spool.

    Raises:
        OSError: the folder cannot be read.
    """
    entries = size = left = 0
    oldest: list[int] = []
    problems: list[str] = []
    aside: list[RefusedKind] = []
    files = other_files(directory, ())
    for path in files:
        try:
            contents = read_contents(path)
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
    return SpoolStatus(
        directory=str(directory),
        files=len(files),
        entries=entries,
        bytes=size,
        oldest_age=max(0.0, time.time() - min(oldest) / 1000) if oldest else None,
        left_behind=left,
        problems=tuple(problems),
        set_aside=tuple(aside),
    )
