"""The list in SQLite: how the file is opened so that a commit is on disk, and the meaning of errors."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import AsyncRetrying, retry_if_exception_message, stop_after_delay, wait_random

from bridge import private_files
from bridge.suppression import sqlite_file
from bridge.suppression.database import TASK_NAME, Database
from bridge.suppression.errors import SETTING, NoListError, StoreError
from bridge.suppression.sqlite_replacement import FileReplacement
from bridge.tasks import run_shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sqlalchemy import URL, Connection, TextClause
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from bridge.suppression.migrating import Revisions
    from bridge.suppression.privileges import Role

SCHEMES: Final = frozenset({"sqlite", "sqlite+aiosqlite"})

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for a write of another process; then the database counts as locked. `?timeout=` in the URL wins."""

_BEGIN: Final = "bridge_begin"
_ATTEMPTS: Final = 5
_TRUNCATE_LOG: Final = "PRAGMA wal_checkpoint(TRUNCATE)"
_READERS_SECONDS: Final = 0.1
"""Until those who read from the write-ahead log are asked again whether they have finished."""
_NO_DATABASE: Final = "file is not a database"


class SqliteDatabase(Database):
    """A file in WAL mode.

    A transaction is always finished: aiosqlite's thread cannot be stopped during a statement, and an abandoned transaction
    would keep SQLite's lock. It takes at most as long as another process holds the lock.
    """

    abandon_after: ClassVar[float | None] = None
    import_batch: ClassVar[int] = 4_000

    def __init__(self, url: URL) -> None:
        """Args: `sqlite:///file`. Nothing is opened.

        Raises:
            StoreError: it names no file, or has an unknown option.
        """
        if url.database in {None, "", ":memory:"}:
            raise StoreError(f"{SETTING} names no file: a list in memory would be lost with the process")
        super().__init__(_engine(url.set(drivername="sqlite+aiosqlite")), str(url.database))
        self._file = Path(self.name)
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._autocommit_writer = self._engine.execution_options(**{_BEGIN: None})
        self._autocommit_reader = self._autocommit_writer
        # SQLite has one writer at a time: those of this process wait here, in order, not in SQLite's busy loop.
        self._write_lock = asyncio.Lock()
        self._repair_lock = asyncio.Lock()
        self._adopted_file: str | None = None
        """Device and inode of the file that was opened. If another file stands at the path, that is logged."""
        self._generation = 0
        """Counts replacements of the file. Connections of an earlier generation are closed when they are returned."""
        self._replacement = FileReplacement(self, self._file, self._writer)

    def check_before_connecting(self, *, create: bool) -> None:
        file = self._file
        try:
            has_folder, exists = file.parent.is_dir(), file.exists()
        except OSError as error:  # a folder on the way to it may not be entered
            raise StoreError(
                f"the suppression list {file} cannot be opened: {error.strerror}; see {SETTING}"
            ) from error
        if not has_folder:
            raise StoreError(
                f"there is no folder {file.parent} for the suppression list; make it, or set {SETTING}"
            )
        if not create and not exists:
            raise self._no_list()
        # When a file cannot be opened, aiosqlite raises while its thread still runs, and a closing loop reports that.
        try:
            if create:
                private_files.create_file(file)
            sqlite3.connect(file).close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the suppression list {file} cannot be opened: {error}") from error
        sqlite_file.make_private(file)

    async def grant_api(self, user: str) -> None:
        raise StoreError(
            f"SQLite has no users: whoever may write {self.name} may change the list; '{user}' has no rights of its own"
        )

    async def open(self, *, create: bool, role: Role) -> None:
        del role  # there are no users
        found = await self.revisions()
        if found.current is None and not create:  # an empty file, or somebody else's database
            raise self._no_list()
        if not found.is_newest:
            await self.migrate()
        async with self._engine.connect() as connection:
            self._adopted_file = (await self._replacement.state(connection)).file

    async def revisions(self) -> Revisions:
        # If several processes open a new file at once, switching it to WAL fails without SQLite's own waiting.
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
        # A second process waits for the lock of the first, and then finds the migration done.
        return await run_shielded(super().migrate(), name=TASK_NAME)

    async def overwrite_deleted(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")

    async def discard_deleted(self) -> None:
        for _ in range(_ATTEMPTS):
            async with self.write_autocommit() as connection:
                busy = (await connection.exec_driver_sql(_TRUNCATE_LOG)).scalar_one()
            if not busy:
                return
            await asyncio.sleep(_READERS_SECONDS)

    async def vacuum(self) -> None:
        async with self.write_autocommit() as connection:
            await connection.exec_driver_sql("VACUUM")
        await self.discard_deleted()

    async def close(self) -> None:
        await run_shielded(super().close(), name=TASK_NAME)

    async def fetch(
        self, connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        # One step into the driver's thread and back, not four: cursor, execute, fetch, close.
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            rows: Sequence[Sequence[Any]] = await driver.execute_fetchall(statement.text, parameters)
        except sqlite3.Error as error:
            raise DBAPIError.instance(statement.text, None, error, sqlite3.Error) from error
        return rows

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """As in `Database`. If the file at the path is not the one that is open, it is opened first."""
        for _ in range(_ATTEMPTS):
            async with engine.connect() as connection:
                generation = self._generation
                state = await self._replacement.state(connection)
                if state.kind == sqlite_file.CURRENT and self._adopted_file in {None, state.file}:
                    try:
                        yield connection
                    finally:
                        if generation != self._generation:
                            await connection.invalidate()
                    return
                async with self._repair_lock:
                    if generation != self._generation:
                        await connection.invalidate()
                    elif state.kind == sqlite_file.CURRENT:
                        await self._replacement.adopt(connection)
                        self._adopted_file = state.file
                    else:
                        await self._leave(connection, state.kind)
        raise self.unavailable("its file is replaced again and again")

    async def _verify_commit(self, connection: AsyncConnection) -> None:
        state = await self._replacement.state(connection)
        if state.kind != sqlite_file.CURRENT:
            raise self.unavailable("its file was replaced while it was written to")

    async def _leave(self, connection: AsyncConnection, kind: str) -> None:
        """Save what only the open file has, and close it. The next connection opens the file at the path."""
        await self._replacement.abandon(connection, kind)
        self._generation += 1
        await connection.invalidate()
        await self._engine.dispose()

    def _no_list(self) -> NoListError:
        return NoListError(
            f"there is no suppression list at {self._file.absolute()}; run `bridge db upgrade`, start a worker on it, "
            f"or set {SETTING}"
        )

    def translated(self, error: Exception) -> StoreError | None:
        if isinstance(error, DataError | IntegrityError):
            return self.refused(error.orig)
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return self.refused(error)  # the driver's own, for a value that it cannot convert
        if isinstance(error, DBAPIError):
            passing = (
                error.connection_invalidated
                or isinstance(error, OperationalError | InterfaceError)
                or (
                    self._adopted_file is not None and str(error.orig) == _NO_DATABASE
                )  # somebody may repair it
            )
            return self.unavailable(error.orig) if passing else self.broken(error.orig)
        return None


def _engine(url: URL) -> AsyncEngine:
    url = url.update_query_dict({"timeout": str(BUSY_TIMEOUT)} | dict(url.query))
    try:
        # sqlite3 must not begin transactions: `_begin` does.
        engine = create_async_engine(
            url, connect_args={"isolation_level": None, "factory": sqlite_file.ListConnection}
        )
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
        cursor.execute(sqlite_file.FILE_STATE_QUERY)  # remembers the files, which are all open now
        cursor.close()
    except sqlite3.Error:
        connection.close()  # else its thread would go on: the pool has not taken it yet
        raise


def _begin(connection: Connection) -> None:
    # A transaction that begins as a read cannot wait for another writer: SQLite refuses the upgrade at once.
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)
