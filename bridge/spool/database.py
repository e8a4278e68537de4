"""SQLite as a spool file needs it: every commit fsynced, and known by device and inode, not by its name. Blocking."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge import private_files
from bridge.spool import refused_entries
from bridge.spool.folder import has_only_a_log, parts, set_aside, standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT
"""
_ROWS_AT_ONCE: Final = 500


class Database:
    """A connection, and which files it has."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin it; one that is corrupt is set aside, and another begun.

        Raises:
            SpoolError: it cannot be set aside.
            sqlite3.Error: it cannot be opened.
            OSError: the folder cannot be read.
        """
        self.path = path
        private_files.close_to_others(parts(path))
        if has_only_a_log(path):
            set_aside(path, "the database is gone, and only its write-ahead log is left")
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            set_aside(path, str(error))
            self._open()

    def _open(self) -> None:
        private_files.begin(self.path)
        before = standing(self.path)
        self.connection = _connect(self.path)
        try:
            self._second = _connect_to_read(self.path)
        except sqlite3.DatabaseError:
            self.connection.close()
            raise
        self._files = standing(self.path)
        self._is_what_it_opened = self._files[:2] == before[:2]

    def in_place(self) -> bool:
        """Whether its files, and the lock, are those that stand in the folder.

        Raises:
            OSError: the folder cannot be read.
        """
        return self._is_what_it_opened and standing(self.path) == self._files

    def tables(self) -> list[str]:
        return _tables(self.connection)

    def rows(self, table: str) -> Iterator[tuple[list[str], list[tuple[object, ...]]]]:
        """All that is in a table, so many rows at a time, with the names of its columns."""
        found = self.connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 -- a name from the schema
        columns = [column[0] for column in found.description]
        while chunk := found.fetchmany(_ROWS_AT_ONCE):
            yield columns, chunk

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows of another spool file, in one transaction."""
        names, values = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                f'INSERT INTO "{table}" ({names}) VALUES ({values})',  # noqa: S608 -- names from the schema
                rows,
            )

    def clear(self) -> None:
        """Remove all that is in it."""
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            for table in self.tables():
                self.connection.execute(f'DELETE FROM "{table}"')  # noqa: S608 -- a name from the schema
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Tidily: all is in the database, and its log is gone."""
        self._second.close()
        self.connection.close()

    def disconnect(self) -> None:
        """Touch nothing in the folder.

        SQLite's last tidying removes the log by its name, which may be another file's by now: it looks at the inode
        before, but not at the device. It does not tidy while there is another connection, and the second may not.
        """
        for connection in (self.connection, self._second):
            with suppress(sqlite3.DatabaseError):
                connection.close()


def is_corrupt(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for statement in (_SCHEMA, *refused_entries.SCHEMA):
            connection.execute(statement)
        if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(verdict)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        _tables(connection)  # from now on it has the files open
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return [name for (name,) in rows]


def _damaged(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
