"""Copies an open spool file that somebody has removed or mounted over: its contents can still be read. Blocking."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from bridge.spool import disk_space
from bridge.spool.claiming import claim_file
from bridge.spool.errors import SpoolError, SpoolFullError, SpoolUnreadableError, as_spool_error
from bridge.spool.folder import make_folder
from bridge.telemetry import logs

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.spool.spool_file import SpoolFile

log = logs.logger("spool")


def copy_to_new_file(
    old: SpoolFile, directory: Path, *, min_free_bytes: int = 0, anyway: bool = False
) -> SpoolFile:
    """Create a new file in the folder with the contents of the old one, and close the old one.

    The new file must not exist before: then no ids can collide, and an interrupted copy can be deleted.

    Args:
        old: the file, which is no longer in the folder.
        directory: the folder; created if it is missing.
        min_free_bytes: must stay free on its disk, for later writes to the new file.
        anyway: continue without what cannot be read.

    Raises:
        SpoolUnreadableError: the old file cannot be read.
        SpoolError: there is no folder, or no space in it; the old file is unchanged.
    """
    make_folder(directory)
    new = claim_file(directory, min_free_bytes=min_free_bytes, fresh=True)
    try:
        copied = _copy(old, new, anyway=anyway)
    except SpoolError:
        with suppress(SpoolError):
            new.close(delete=True)
        raise
    log.error(
        "somebody has removed the spool file in use, or mounted over it: its events were copied to a new file",
        action="spool.replaced",
        file=str(old.path),
        copied_to=str(new.path),
        entries=copied,
    )
    old.abandon()
    return new


def copy_entries(old: SpoolFile, new: SpoolFile) -> int:
    """Copy all rows, and delete them in the old file; returns the number of entries.

    Raises:
        SpoolUnreadableError: the old file cannot be read.
        SpoolError: the new file cannot be written; nothing was deleted.
    """
    copied = 0
    try:
        _check_room(new, disk_space.used_bytes(old.database.connection))
        for table in old.database.tables():
            for columns, rows in old.database.rows(table):
                with as_spool_error(new.path):
                    new.database.insert(table, columns, rows)
                copied += len(rows) if "body" in columns else 0
    except sqlite3.Error as error:
        raise SpoolUnreadableError(f"{old.path}: {error}", copied) from error
    new.check_in_place()
    with suppress(sqlite3.Error):
        # After an unmount the old file is visible again, and its entries would be published again.
        old.database.clear()
    return copied


def _check_room(new: SpoolFile, size: int) -> None:
    """Check the free space. Accepted events may use what `min_free_bytes` reserves."""
    with as_spool_error(new.path):
        free = disk_space.free_bytes(new.path)
    if free < size:
        raise SpoolFullError(f"{new.path.parent}: {free} bytes are free on its disk, too few for {size}")


def _copy(old: SpoolFile, new: SpoolFile, *, anyway: bool) -> int:
    try:
        return copy_entries(old, new)
    except SpoolUnreadableError as error:
        if not anyway:
            raise
        unreadable = error
    log.error(
        "a removed spool file cannot be read: the events that were not copied are lost",
        action="spool.lost",
        file=str(old.path),
        copied=unreadable.copied,
        reason=str(unreadable),
    )
    return unreadable.copied
