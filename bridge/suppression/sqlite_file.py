"""The database file of a list in SQLite: detects that it was replaced or removed while it is open."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from bridge import durable_files, private_files
from bridge.telemetry import logs

log = logs.logger("suppression")

FILE_STATE_QUERY: Final = "SELECT list_file_state()"
"""Runs in the connection's own thread, so that a hanging disk blocks nothing else. `FileState.of` reads its rows."""

CURRENT, REPLACED, GONE = "current", "replaced", "gone"
"""The open file is the one at the path; another file stands there; no file does."""
LOG_GONE, LOG_REPLACED = "log-gone", "log-replaced"
"""The file is current, but its WAL is not the one that is open. In the second case others have written since."""

_LOGS: Final = ("-wal", "-shm")

_FileId = tuple[int, int]
"""Device and inode."""


class FileState(NamedTuple):
    """What is at the path of the open file (`CURRENT`, `REPLACED` and so on), and its device and inode as text."""

    kind: str
    file: str

    @classmethod
    def of(cls, rows: Any) -> FileState:
        """Read the rows of `FILE_STATE_QUERY`: one, such as `current 2049:1234`."""
        ((text,),) = rows
        kind, _, file = text.partition(" ")
        return cls(kind, file)


class ListConnection(sqlite3.Connection):
    """A connection that knows which file it has open. It does not create a file."""

    def __init__(self, database: str, *args: Any, **options: Any) -> None:
        """Open the file at this path. The other arguments are those of `sqlite3.connect`."""
        before = _file_id(database)
        super().__init__(f"file:{quote(database)}?mode=rw", *args, **options | {"uri": True})
        if before is None or before != _file_id(database):
            self.close()
            raise sqlite3.OperationalError("the file was replaced while it was opened")
        self.create_function("list_file_state", 0, _OpenFiles(database, before).state)


class _OpenFiles:
    """The files that a connection has open. SQLite does not delete a WAL that is open."""

    def __init__(self, path: str, file: _FileId) -> None:
        self._path = path
        self._file = file
        self._logs: list[_FileId | None] = [None for _ in _LOGS]

    def state(self) -> str:
        logs = [_file_id(self._path + log) for log in _LOGS]
        # The files that exist at the first check are ours: SQLite makes them at the first write.
        self._logs = [now if ours is None else ours for ours, now in zip(self._logs, logs, strict=True)]
        now = _file_id(self._path)
        if now == self._file:
            kind = CURRENT if logs == self._logs else self._of_the_log(logs)
        else:
            kind = GONE if now is None else REPLACED
            self._remove_our_logs(logs)
        return f"{kind} {self._file[0]}:{self._file[1]}"

    def _of_the_log(self, logs: list[_FileId | None]) -> str:
        if logs[0] in {None, self._logs[0]}:
            return LOG_GONE
        try:
            written = Path(self._path + _LOGS[0]).stat().st_size > 0
        except OSError:
            written = False
        return LOG_REPLACED if written else LOG_GONE

    def _remove_our_logs(self, logs: list[_FileId | None]) -> None:
        """Remove the WAL of the old file: SQLite would apply it to the new file."""
        for log, now, ours in zip(_LOGS, logs, self._logs, strict=True):
            if now is not None and now == ours:
                with suppress(OSError):
                    Path(self._path + log).unlink()


def make_private(path: Path) -> None:
    """Remove the permissions of other users, which an earlier release or a restored backup may have. Blocking."""
    if open_to_others := private_files.make_private(_files_of(path)):
        log.warning(
            "other users may read the suppression list, and we may not change that",
            action="suppression.open_to_others",
            files=[str(path) for path in open_to_others],
        )


def new_file_beside(path: Path) -> sqlite3.Connection:
    """A new empty database in the same folder. Any thread may use the connection.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    private_files.create_file(new)
    return sqlite3.connect(new, check_same_thread=False)


def put_in_place(database: sqlite3.Connection, path: Path) -> None:
    """Close the database and link it to this path, unless a file stands there by now.

    Raises:
        OSError, sqlite3.Error: it cannot be done; the new file is removed.
    """
    with closing(database):
        ((_, _, name),) = database.execute("PRAGMA database_list")
    new = Path(name)
    try:
        with suppress(FileExistsError):
            path.hardlink_to(new)
        durable_files.sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


def _files_of(path: Path) -> list[Path]:
    """The database file, and SQLite's files beside it."""
    return [path, *(path.with_name(path.name + log) for log in _LOGS)]


def _file_id(path: str) -> _FileId | None:
    try:
        found = os.stat(path)  # noqa: PTH116 -- runs thousands of times a second; a Path would be slower
    except OSError:
        return None
    return found.st_dev, found.st_ino
