"""The SQLite database of a spool file: every commit is fsynced, and files are identified by device and inode. Blocking."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge import private_files
from bridge.spool import entry_traces, set_aside_entries
from bridge.spool.errors import is_corrupt
from bridge.spool.folder import database_files, file_identities, has_only_wal, rename_corrupt

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
    """A connection to a database, and the identity of its files."""

    def __init__(self, path: Path) -> None:
        """Open the database, or create it. A corrupt one is renamed, and a new one created.

        Raises:
            SpoolError: a corrupt one cannot be renamed.
            sqlite3.Error: it cannot be opened.
            OSError: the folder cannot be read.
        """
        self.path = path
        private_files.make_private(database_files(path))
        if has_only_wal(path):
            rename_corrupt(path, "the database is gone, and only its write-ahead log is left")
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            rename_corrupt(path, str(error))
            self._open()

    def _open(self) -> None:
        private_files.create_file(self.path)
        before = file_identities(self.path)
        self.connection = _connect(self.path)
        try:
            self._read_only_connection = _connect_to_read(self.path)
        except sqlite3.DatabaseError:
            self.connection.close()
            raise
        self._files = file_identities(self.path)
        self._opened_expected_file = self._files[:2] == before[:2]

    def in_place(self) -> bool:
        """Whether its files, and the lock, are still those in the folder.

        Raises:
            OSError: the folder cannot be read.
        """
        return self._opened_expected_file and file_identities(self.path) == self._files

    def tables(self) -> list[str]:
        """The names of its tables, without those of SQLite.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        return _tables(self.connection)

    def rows(self, table: str) -> Iterator[tuple[list[str], list[tuple[object, ...]]]]:
        """All rows of a table, in chunks, each with the names of the columns.

        Raises:
            sqlite3.Error: it cannot be read; also between the chunks.
        """
        found = self.connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 -- a name from the schema
        columns = [column[0] for column in found.description]
        while chunk := found.fetchmany(_ROWS_AT_ONCE):
            yield columns, chunk

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Insert rows of another spool file, in one transaction, fsynced when this returns.

        Raises:
            sqlite3.Error: the disk fails; nothing was inserted.
        """
        names, values = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                f'INSERT INTO "{table}" ({names}) VALUES ({values})',  # noqa: S608 -- names from the schema
                rows,
            )

    def clear(self) -> None:
        """Delete all rows, in one transaction.

        Raises:
            sqlite3.Error: the disk fails.
        """
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            for table in self.tables():
                self.connection.execute(f'DELETE FROM "{table}"')  # noqa: S608 -- a name from the schema
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close in order: SQLite moves its write-ahead log into the database, and removes it."""
        self._read_only_connection.close()
        self.connection.close()

    def disconnect(self) -> None:
        """Close without touching the folder.

        When SQLite closes the last connection it removes the log by its name, which may belong to another file by now: it
        compares the inode, but not the device. It does not while there is a second connection, and that one is read-only.
        """
        for connection in (self.connection, self._read_only_connection):
            with suppress(sqlite3.DatabaseError):
                connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for statement in (_SCHEMA, *set_aside_entries.SCHEMA, *entry_traces.SCHEMA):
            connection.execute(statement)
        if (result := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _corrupt_error(result)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        _tables(connection)  # it opens the files
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return [name for (name,) in rows]


def _corrupt_error(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
