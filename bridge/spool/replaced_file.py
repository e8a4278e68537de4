"""What a spool file holds that somebody has removed or mounted over: it can still be read, and is copied. Blocking."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from bridge.spool import disk_space
from bridge.spool.errors import SpoolFullError, SpoolUnreadableError, explaining
from bridge.spool.folder import SpoolError, make
from bridge.spool.spool_file import SpoolFile
from bridge.telemetry import logs

if TYPE_CHECKING:
    from pathlib import Path

log = logs.logger("spool")


def move(old: SpoolFile, directory: Path, *, min_free_bytes: int = 0, anyway: bool = False) -> SpoolFile:
    """A new file in the folder as it is now, with all that is in the old one, which is let go of.

    The new one is one that was not there: a copy that was broken off is none, and no ids meet.

    Args:
        old: which is not in the folder any more.
        directory: the folder; it is made where it is missing.
        min_free_bytes: what must stay free on its disk, when the new file is written to afterwards.
        anyway: go on with what can be read.

    Raises:
        SpoolUnreadableError: the old file cannot be read.
        SpoolError: there is no folder, or no room in it; the old file is as it was.
    """
    make(directory)
    new = SpoolFile.claim(directory, min_free_bytes=min_free_bytes, fresh=True)
    try:
        copied = _copied(old, new, anyway=anyway)
    except SpoolError:
        with suppress(SpoolError):
            new.close(delete=True)
        raise
    log.error(
        "somebody has removed the spool file, or mounted over it, while it was in use: what it held is copied",
        action="spool.replaced",
        file=str(old.path),
        copied_to=str(new.path),
        entries=copied,
    )
    old.abandon()
    return new


def copy(old: SpoolFile, new: SpoolFile) -> int:
    """Copy all that is in a file, and remove it there; how many entries.

    Raises:
        SpoolUnreadableError: the old file cannot be read.
        SpoolError: the new one cannot be written; nothing was removed.
    """
    copied = 0
    try:
        _have_room(new, disk_space.used_bytes(old.database.connection))
        for table in old.database.tables():
            for columns, rows in old.database.rows(table):
                with explaining(new.path):
                    new.database.insert(table, columns, rows)
                copied += len(rows) if "body" in columns else 0
    except sqlite3.Error as error:
        raise SpoolUnreadableError(f"{old.path}: {error}", copied) from error
    new.be_in_place()
    with suppress(sqlite3.Error):
        # What somebody has mounted over may come to light again, and would be published again.
        old.database.clear()
    return copied


def _have_room(new: SpoolFile, size: int) -> None:
    """What was answered for already may take what is left to others."""
    with explaining(new.path):
        free = disk_space.free_bytes(new.path)
    if free < size:
        raise SpoolFullError(f"{new.path.parent}: {free} bytes are free on its disk, too few for {size}")


def _copied(old: SpoolFile, new: SpoolFile, *, anyway: bool) -> int:
    try:
        return copy(old, new)
    except SpoolUnreadableError as error:
        if not anyway:
            raise
        unreadable = error
    log.error(
        "a spool file that was removed cannot be read: what was not copied is lost",
        action="spool.lost",
        file=str(old.path),
        copied=unreadable.copied,
        reason=str(unreadable),
    )
    return unreadable.copied
