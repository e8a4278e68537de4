"""Erases events of one person from the spool files of a folder. It blocks."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge import events
from bridge.spool import entry_traces
from bridge.spool.errors import SpoolError, SpoolLockedError
from bridge.spool.folder import acquire_lock, other_files
from bridge.spool.set_aside_entries import has_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    Concerns = Callable[[bytes], bool]

_CORRUPT: Final = "spool-*.sqlite3.corrupt-*"


class SpoolErasure(NamedTuple):
    """What was erased from a folder, and what was not."""

    erased: int
    """How many events."""
    in_use: int
    """How many are in files that a receiver has: it publishes them as soon as RabbitMQ takes them."""
    unread: tuple[Path, ...]
    """Files that could not be read, the corrupt ones that were renamed among them: they may hold such events."""


def erase_events(
    directory: Path, message_ids: Collection[str], address: str, *, dry_run: bool = False
) -> SpoolErasure:
    """Erase what concerns these messages, or has the address in it, from the files that no receiver has.

    Args:
        directory: the spool folder; a missing one has no files.
        message_ids: of the messages to the person.
        address: of the person, as it may stand in a body.
        dry_run: only count.

    Raises:
        OSError: the folder cannot be read.
    """
    concerns = _concerning(set(message_ids), address)
    erased = in_use = 0
    unread = list(directory.glob(_CORRUPT)) if directory.is_dir() else []
    for path in other_files(directory, ()):
        try:
            lock = acquire_lock(path)
        except SpoolLockedError:
            lock = None
        except SpoolError:
            unread.append(path)
            continue
        try:
            found = _erase_from(path, concerns, keep=dry_run or lock is None)
        except sqlite3.DatabaseError:
            unread.append(path)
            continue
        finally:
            if lock is not None:
                os.close(lock)
        if lock is None:
            in_use += found
        else:
            erased += found
    return SpoolErasure(erased, in_use, tuple(sorted(unread)))


def _concerning(message_ids: set[str], address: str) -> Concerns:
    text = address.strip().lower().encode()

    def concerns(body: bytes) -> bool:
        if text and text in body.lower():
            return True
        try:
            return events.parse(body).message_id in message_ids
        except (events.NotJsonError, events.MalformedError):
            return False

    return concerns


def _erase_from(path: Path, concerns: Concerns, *, keep: bool) -> int:
    mode = "ro" if keep else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        tables = ["entries", *(["set_aside"] if has_tables(connection) else [])]
        found = 0
        if not keep:
            connection.execute("PRAGMA secure_delete = ON")
        for table in tables:
            rows = connection.execute(f"SELECT id, body FROM {table}")  # noqa: S608 -- one of two names
            ids = [(row_id,) for row_id, body in rows if concerns(body)]
            found += len(ids)
            if ids and not keep:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", ids)  # noqa: S608 -- one of two names
                connection.execute("COMMIT")
        if found and not keep:
            entry_traces.remove_orphans(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return found
