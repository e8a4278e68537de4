"""What is done when the file of an open list in SQLite was replaced or removed: nothing recorded is lost."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from alembic.util import CommandError

from bridge.suppression import migrating, sqlite_file
from bridge.suppression.errors import StoreUnavailableError
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from bridge.suppression.database import Database

log = logs.logger("suppression")

_CONTENTS_QUERY: Final = (
    "SELECT (SELECT count(*) FROM suppressions), (SELECT coalesce(max(id), 0) FROM changes)"
)
_CONTINUE_CHANGE_IDS: Final = """
INSERT INTO sqlite_sequence (name, seq) SELECT 'changes', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'changes');
UPDATE sqlite_sequence SET seq = max(seq, :newest) WHERE name = 'changes'
"""
"""The ids of new changes go on after those of the file before."""


class _Contents(NamedTuple):
    """What is in a file: number of entries, and id of the newest change."""

    entries: int
    newest_change: int


class FileReplacement:
    """Leaves the file that was open, and takes over the one that stands at the path now.

    Every method raises `StoreUnavailableError` where the file cannot be read or written now.
    """

    def __init__(self, database: Database, file: Path, writer: AsyncEngine) -> None:
        """Args: the database, for the wording of its errors; its file; the engine whose transactions write to it."""
        self._database = database
        self._file = file
        self._writer = writer
        self._before = _Contents(0, 0)
        """The contents of the file that was open before."""

    async def state(self, connection: AsyncConnection) -> sqlite_file.FileState:
        """Whether the file that this connection has open is still the one at the path."""
        return sqlite_file.FileState.of(await self._rows(connection, sqlite_file.FILE_STATE_QUERY))

    async def abandon(self, connection: AsyncConnection, kind: str) -> None:
        """Save what only the open file has. The caller closes its connections after this.

        Args:
            connection: has the file open.
            kind: why it is abandoned, a `FileState.kind`.
        """
        # A file of an earlier revision, or a disk that cannot be read any more, is abandoned all the same.
        with suppress(StoreUnavailableError):
            ((entries, changes),) = await self._rows(connection, _CONTENTS_QUERY)
            self._before = _Contents(entries, changes)
        log.error(
            "the file of the suppression list was replaced or removed",
            action="suppression.replaced",
            found=kind,
            entries=self._before.entries,
            newest_change=self._before.newest_change,
        )
        if kind == sqlite_file.GONE:
            await self._write_back(connection)
        elif kind == sqlite_file.LOG_GONE:
            # SQLite's WAL was removed: its content must be written to the database file first.
            ((busy, _, _),) = await self._rows(connection, "PRAGMA wal_checkpoint(FULL)")
            if busy:
                raise self._database.unavailable("its WAL was removed while others write")

    async def adopt(self, connection: AsyncConnection) -> None:
        """Use the file that stands at the path now: migrate it to the newest revision, and go on with the change ids."""
        sqlite_file.make_private(self._file)
        if not (await connection.run_sync(migrating.revisions)).is_newest:
            await connection.rollback()
            try:
                async with self._writer.begin() as writing:
                    await writing.run_sync(migrating.upgrade)
            except CommandError as error:
                raise self._database.unavailable(
                    f"its file was replaced by one of another bridge ({error})"
                ) from error
        await connection.rollback()
        ((entries, changes),) = await self._rows(connection, _CONTENTS_QUERY)
        async with self._writer.begin() as writing:
            for statement in _CONTINUE_CHANGE_IDS.split(";"):
                await writing.exec_driver_sql(statement, {"newest": self._before.newest_change})
        log.error(
            "another file is the suppression list now: replay from the archive what only the file before had",
            action="suppression.adopted",
            entries=entries,
            newest_change=changes,
            entries_before=self._before.entries,
            newest_change_before=self._before.newest_change,
        )

    async def _write_back(self, connection: AsyncConnection) -> None:
        """The path is empty: write the content of the open file, which is the whole list, to it."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            new = await run_abandonable(partial(sqlite_file.new_file_beside, self._file))
            await driver.backup(new)
            await run_abandonable(partial(sqlite_file.put_in_place, new, self._file))
        except (OSError, sqlite3.Error) as error:
            raise self._database.unavailable(
                f"its file is gone, and cannot be written back: {error}"
            ) from error

    async def _rows(self, connection: AsyncConnection, statement: str) -> Any:
        """The rows of a statement, outside of any transaction."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            return await driver.execute_fetchall(statement)
        except sqlite3.Error as error:
            raise self._database.unavailable(error) from error
