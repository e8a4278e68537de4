"""The list in a file: how SQLite is opened so that a commit is on disk, and how it fails."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import AsyncRetrying, retry_if_exception_message, stop_after_delay, wait_random

from bridge.suppression.database import SETTING, Database, NoListError, StoreError, to_its_end

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from bridge.suppression.migrating import Revisions

SCHEMES: Final = frozenset({"sqlite", "sqlite+aiosqlite"})

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's write before the database counts as locked; `?timeout=` in the URL wins."""

_BEGIN: Final = "bridge_begin"


class SqliteDatabase(Database):
    """A file, in WAL.

    What was begun is always done: aiosqlite's thread cannot be stopped in the middle of a statement, and a
    transaction that was abandoned would keep SQLite's lock. It takes at most as long as another process holds that.
    """

    patience: ClassVar[float | None] = None

    def __init__(self, url: URL) -> None:
        """Take `sqlite:///file`; nothing is opened.

        Raises:
            StoreError: it names no file, or has an option that there is not.
        """
        if url.database in {None, "", ":memory:"}:
            raise StoreError(f"{SETTING} names no file: a list in memory would be lost with the process")
        super().__init__(_engine(url.set(drivername="sqlite+aiosqlite")), str(url.database))
        self._file = Path(self.name)
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._singly = self._engine.execution_options(**{_BEGIN: None})
        # SQLite has one writer: those of this process queue here, in order, instead of in its busy loop.
        self._turn = asyncio.Lock()

    def look(self, *, create: bool) -> None:
        file = self._file
        if not file.parent.is_dir():
            raise StoreError(
                f"there is no folder {file.parent} for the suppression list; make it, or set {SETTING}"
            )
        if not create and not file.exists():
            raise NoListError(
                f"there is no suppression list at {file}; start a worker on it, or set {SETTING}"
            )
        # aiosqlite answers a file that cannot be opened while its thread still ends, which a closing loop reports.
        try:
            sqlite3.connect(file).close()
        except sqlite3.Error as error:
            raise StoreError(f"the suppression list {file} cannot be opened: {error}") from error

    async def open(self, *, create: bool) -> None:
        """As there; a file that `look` has let pass is brought there in any case."""
        del create
        if not (await self.revisions()).newest_stands:
            await self.migrate()

    async def revisions(self) -> Revisions:
        # Where several open a new file at once, switching it to WAL fails without SQLite's own waiting.
        attempts = AsyncRetrying(
            retry=retry_if_exception_message(match=".*database is locked$"),
            stop=stop_after_delay(BUSY_TIMEOUT),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                found = await super().revisions()
        return found

    async def migrate(self) -> Revisions:
        # A second opener waits for the first one's lock, and then finds nothing left to do.
        return await to_its_end(super().migrate())

    async def close(self) -> None:
        await to_its_end(super().close())

    def explanation(self, error: Exception) -> StoreError | None:
        if isinstance(error, DataError | IntegrityError):
            return self.refused(error.orig)
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return self.refused(error)  # the driver's own, for a value that it cannot even hand over
        if isinstance(error, DBAPIError):
            passing = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
            return self.unavailable(error.orig) if passing else self.broken(error.orig)
        return None


def _engine(url: URL) -> AsyncEngine:
    url = url.update_query_dict({"timeout": str(BUSY_TIMEOUT)} | dict(url.query))
    try:
        # sqlite3 must not begin transactions by itself: `_begin` does.
        engine = create_async_engine(url, connect_args={"isolation_level": None})
    except (ValueError, TypeError) as error:
        raise StoreError(f"{SETTING} has an option that SQLite cannot take: {error}") from None
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # in WAL, NORMAL would lose commits with the power
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
    except sqlite3.Error:
        connection.close()  # the pool has not taken it yet, and would leave its thread running
        raise


def _begin(connection: Connection) -> None:
    # A write that begins as a read cannot wait for another writer: SQLite refuses to upgrade it, at once.
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)
