"""The file of a list in SQLite: whether the one that is open is still the one at its path, and what is done if not."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from bridge import private_files

STATE: Final = "SELECT list_file_state()"
"""Asked in the connection's own thread: a disk that hangs holds up nobody else. Answers what `State.of` takes."""

CURRENT, REPLACED, GONE = "current", "replaced", "gone"
"""The open file is the one at its path; another stands there; none does."""
LOG_GONE, LOG_REPLACED = "log-gone", "log-replaced"
"""It is, but SQLite's files beside it are not those that are open; in the second case, others have written since."""

_LOGS: Final = ("-wal", "-shm")

_Known = tuple[int, int]
"""Device and inode: what a file is known by, whatever its name."""


class State(NamedTuple):
    """What became of an open file, and by what it is known."""

    what: str
    file: str

    @classmethod
    def of(cls, rows: Any) -> State:
        ((text,),) = rows
        what, _, file = text.partition(" ")
        return cls(what, file)


class OpenList(sqlite3.Connection):
    """A connection that knows which file it has open, and makes none where there is none."""

    def __init__(self, database: str, *args: Any, **options: Any) -> None:
        """Open the file at this path; the other arguments are those of `sqlite3.connect`."""
        before = _known(database)
        super().__init__(f"file:{quote(database)}?mode=rw", *args, **options | {"uri": True})
        if before is None or before != _known(database):
            self.close()
            raise sqlite3.OperationalError("the file was replaced while it was opened")
        self.create_function("list_file_state", 0, _OpenFile(database, before).state)


class _OpenFile:
    """The files that a connection has open. SQLite deletes no log as long as anybody has it open."""

    def __init__(self, path: str, file: _Known) -> None:
        self._path = path
        self._file = file
        self._logs: list[_Known | None] = [None for _ in _LOGS]

    def state(self) -> str:
        logs = [_known(self._path + log) for log in _LOGS]
        # Those that stand there when they are first seen are ours: SQLite makes them when there is something to write.
        self._logs = [now if ours is None else ours for ours, now in zip(self._logs, logs, strict=True)]
        now = _known(self._path)
        if now == self._file:
            what = CURRENT if logs == self._logs else self._of_the_log(logs)
        else:
            what = GONE if now is None else REPLACED
            self._remove_our_logs(logs)
        return f"{what} {self._file[0]}:{self._file[1]}"

    def _of_the_log(self, logs: list[_Known | None]) -> str:
        if logs[0] in {None, self._logs[0]}:
            return LOG_GONE
        try:
            written = Path(self._path + _LOGS[0]).stat().st_size > 0
        except OSError:
            written = False
        return LOG_REPLACED if written else LOG_GONE

    def _remove_our_logs(self, logs: list[_Known | None]) -> None:
        """SQLite would take what stands in them for a part of the new file."""
        for log, now, ours in zip(_LOGS, logs, self._logs, strict=True):
            if now is not None and now == ours:
                with suppress(OSError):
                    Path(self._path + log).unlink()


def parts(path: Path) -> list[Path]:
    """The file, and those that SQLite keeps beside it."""
    return [path, *(path.with_name(path.name + log) for log in _LOGS)]


def new_file_beside(path: Path) -> sqlite3.Connection:
    """An empty database in the same folder, for what is to stand at the path; from whichever thread.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    private_files.begin(new)
    return sqlite3.connect(new, check_same_thread=False)


def put_in_place(database: sqlite3.Connection, path: Path) -> None:
    """Close it and give it its name, unless something stands there meanwhile.

    Raises:
        OSError, sqlite3.Error: it cannot be; nothing of it stays behind.
    """
    with closing(database):
        ((_, _, name),) = database.execute("PRAGMA database_list")
    new = Path(name)
    try:
        with suppress(FileExistsError):
            path.hardlink_to(new)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)


def _known(path: str) -> _Known | None:
    try:
        found = os.stat(path)  # noqa: PTH116 -- some ten thousand times a second: no object for it
    except OSError:
        return None
    return found.st_dev, found.st_ino
