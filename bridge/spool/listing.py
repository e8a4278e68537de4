"""The spool files of a folder, read while other processes may have them open. It blocks."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.spool.entries import SpoolContents
from bridge.spool.errors import SpoolError
from bridge.spool.folder import in_use, other_files
from bridge.spool.set_aside_entries import has_tables, to_read_set_aside, to_retry_now
from bridge.spool.spool_file import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bridge.spool.set_aside_entries import SetAsideKind

_CONTENTS_BEFORE: Final = """
    SELECT count(*), coalesce(sum(length(body) + 64), 0), min(received_at), coalesce(max(id), 0) FROM entries
"""
"""For a file that no receiver of this release has opened yet."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The state of one spool file."""

    path: Path
    in_use: bool | None
    """Whether a receiver uses it; None if it belongs to another user, and is not known."""
    contents: SpoolContents | None
    """None if it cannot be read."""
    problem: str
    """Why it cannot be read."""
    set_aside: tuple[SetAsideKind, ...] = ()
    """The events that RabbitMQ refuses."""


def list_files(directory: Path) -> list[FileStatus]:
    """The state of each spool file in this folder. A missing folder has none.

    Raises:
        OSError: the folder cannot be read.
    """
    return [_status_of(path) for path in other_files(directory, ())]


def _status_of(path: Path) -> FileStatus:
    used: bool | None = None
    try:
        used = in_use(path)
        return FileStatus(path, used, read_contents(path), "", read_set_aside(path))
    except SpoolError as error:
        return FileStatus(path, used, None, str(error).removeprefix(f"{path}: "))


def read_contents(path: Path) -> SpoolContents:
    """The contents of a file.

    Raises:
        SpoolError: it cannot be read.
    """
    with _connected(path, "ro") as connection:
        statement = CONTENTS if has_tables(connection) else _CONTENTS_BEFORE
        return SpoolContents(*connection.execute(statement).fetchone())


def read_set_aside(path: Path) -> tuple[SetAsideKind, ...]:
    """The set-aside entries of a file.

    Raises:
        SpoolError: it cannot be read.
    """
    with _connected(path, "ro") as connection:
        return to_read_set_aside()(connection, ()) if has_tables(connection) else ()


def retry_now(path: Path) -> None:
    """Make all set-aside entries of a file due now. The process that has the file will retry them.

    Raises:
        SpoolError: it cannot be written.
    """
    with _connected(path, "rw") as connection, connection:
        if has_tables(connection):
            to_retry_now()(connection, ())


@contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error
