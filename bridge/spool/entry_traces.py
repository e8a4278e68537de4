"""The trace contexts of entries, in a table of their own: there are few, and earlier releases still read the file. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.spool.entries import SpoolEntry
from bridge.telemetry.trace_context import from_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

_REMOVE_ORPHANS: Final = """
    DELETE FROM traces WHERE id NOT IN (SELECT id FROM entries) AND id NOT IN (SELECT id FROM set_aside)
"""
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS traces (id INTEGER PRIMARY KEY, trace TEXT NOT NULL) STRICT",
    _REMOVE_ORPHANS,  # of entries that an earlier release has removed
)


def entry_of(row: tuple[int, int, bytes, str | None]) -> SpoolEntry:
    """The entry in a row: id, time of reception, body and trace."""
    return SpoolEntry(*row[:3], from_text(row[3]))


def remove_orphans(connection: sqlite3.Connection) -> None:
    """Remove the traces of entries that are gone, if the file has any: one of an earlier release has no such table."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'traces'").fetchone():
        connection.execute(_REMOVE_ORPHANS)


class EntryTraces:
    """Writes and removes the traces of entries, in the caller's transaction. Where there are none it costs nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Args: the file's connection. Raises sqlite3.Error: it cannot be read."""
        self._connection = connection
        self._any = bool(connection.execute("SELECT EXISTS (SELECT 1 FROM traces)").fetchone()[0])

    def add(self, entries: Iterable[SpoolEntry]) -> None:
        """Write the traces of these entries."""
        traces = [(entry.id, entry.trace.text) for entry in entries if entry.trace is not None]
        if traces:
            self._connection.executemany("INSERT INTO traces VALUES (?, ?)", traces)
            self._any = True

    def remove(self, ids: Sequence[tuple[int]]) -> None:
        """Remove those of the entries with these ids."""
        if self._any and ids:
            self._connection.executemany("DELETE FROM traces WHERE id = ?", ids)
