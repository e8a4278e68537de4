"""The list in a file: how SQLite is opened so that a commit is on disk, and how it fails."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import AsyncRetrying, retry_if_exception_message, stop_after_delay, wait_random

from bridge import private_files
from bridge.suppression import migrating, sqlite_file
from bridge.suppression.database import (
    SETTING,
    Database,
    NoListError,
    StoreError,
    StoreUnavailableError,
    to_its_end,
)
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from bridge.suppression.migrating import Revisions

log = logs.logger("suppression")

SCHEMES: Final = frozenset({"sqlite", "sqlite+aiosqlite"})

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's write before the database counts as locked; `?timeout=` in the URL wins."""

_BEGIN: Final = "bridge_begin"
_ATTEMPTS: Final = 5
_NO_DATABASE: Final = "file is not a database"

_HOLDS: Final = "SELECT (SELECT count(*) FROM suppressions), (SELECT coalesce(max(id), 0) FROM changes)"
_NUMBERS_GO_ON: Final = """
INSERT INTO sqlite_sequence (name, seq) SELECT 'changes', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'changes');
UPDATE sqlite_sequence SET seq = max(seq, :newest) WHERE name = 'changes'
"""
"""A number that the file before had given to a change is not given to another one."""


class _Holds(NamedTuple):
    """What a file has in it, as far as it was looked at."""

    entries: int
    newest_change: int


_NOTHING: Final = _Holds(0, 0)


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
        self._mending = asyncio.Lock()
        self._adopted: str | None = None
        """The file that was opened as the list; another one at its path is not taken without a word."""
        self._generation = 0
        """Of connections: those of an earlier one are closed when they come back."""
        self._known = _NOTHING
        """What the file had that was open before."""

    def look(self, *, create: bool) -> None:
        file = self._file
        try:
            has_folder, stands = file.parent.is_dir(), file.exists()
        except OSError as error:  # a folder on the way to it may not be entered
            raise StoreError(
                f"the suppression list {file} cannot be opened: {error.strerror}; see {SETTING}"
            ) from error
        if not has_folder:
            raise StoreError(
                f"there is no folder {file.parent} for the suppression list; make it, or set {SETTING}"
            )
        if not create and not stands:
            raise self._no_list()
        # aiosqlite answers a file that cannot be opened while its thread still ends, which a closing loop reports.
        try:
            if create:
                private_files.begin(file)
            sqlite3.connect(file).close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the suppression list {file} cannot be opened: {error}") from error
        self._close_to_others()

    async def open(self, *, create: bool) -> None:
        found = await self.revisions()
        if found.current is None and not create:  # an empty file, or somebody else's database
            raise self._no_list()
        if not found.newest_stands:
            await self.migrate()
        async with self._engine.connect() as connection:
            self._adopted = (await self._state(connection)).file

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

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """As there; where another file stands at the path than the one that is open, it is opened first."""
        for _ in range(_ATTEMPTS):
            async with engine.connect() as connection:
                generation = self._generation
                state = await self._state(connection)
                if state.what == sqlite_file.CURRENT and self._adopted in {None, state.file}:
                    try:
                        yield connection
                    finally:
                        if generation != self._generation:
                            await connection.invalidate()
                    return
                async with self._mending:
                    if generation != self._generation:
                        await connection.invalidate()
                    elif state.what == sqlite_file.CURRENT:
                        await self._adopt(connection, state.file)
                    else:
                        await self._leave(connection, state.what)
        raise self.unavailable("its file is replaced again and again")

    async def _committed(self, connection: AsyncConnection) -> None:
        state = await self._state(connection)
        if state.what != sqlite_file.CURRENT:
            raise self.unavailable("its file was replaced while it was written to")

    async def _state(self, connection: AsyncConnection) -> sqlite_file.State:
        return sqlite_file.State.of(await self._asked(connection, sqlite_file.STATE))

    async def _leave(self, connection: AsyncConnection, what: str) -> None:
        """Give up the file that is open, when all that it alone has is saved; the next connection opens the other."""
        with suppress(
            StoreUnavailableError
        ):  # of an earlier revision, or a disk that cannot be read any more
            ((entries, changes),) = await self._asked(connection, _HOLDS)
            self._known = _Holds(entries, changes)
        log.error(
            "the list's file is not the one that is open any more",
            action="suppression.replaced",
            found=what,
            entries=self._known.entries,
            newest_change=self._known.newest_change,
        )
        if what == sqlite_file.GONE:
            await self._write_back(connection)
        elif what == sqlite_file.LOG_GONE:
            # SQLite's own files were removed: what stands in them comes into the list's before they are given up.
            ((busy, _, _),) = await self._asked(connection, "PRAGMA wal_checkpoint(FULL)")
            if busy:
                raise self.unavailable("its log was removed while others write")
        self._generation += 1
        await connection.invalidate()
        await self._engine.dispose()

    async def _write_back(self, connection: AsyncConnection) -> None:
        """Nothing stands at the path: what the open file holds, which is all of the list, is put there."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            new = await run_abandonable(partial(sqlite_file.new_file_beside, self._file))
            await driver.backup(new)
            await run_abandonable(partial(sqlite_file.put_in_place, new, self._file))
        except (OSError, sqlite3.Error) as error:
            raise self.unavailable(f"its file is gone, and cannot be written back: {error}") from error

    def _no_list(self) -> NoListError:
        return NoListError(
            f"there is no suppression list at {self._file.absolute()}; run `bridge db upgrade`, start a worker on it, "
            f"or set {SETTING}"
        )

    def _close_to_others(self) -> None:
        """An earlier release, or whoever has put the file back, may have left it open to others."""
        if open_to_others := private_files.close_to_others(sqlite_file.parts(self._file)):
            log.warning(
                "others may read the suppression list, and it is not ours to change that",
                action="suppression.open_to_others",
                files=[str(path) for path in open_to_others],
            )

    async def _adopt(self, connection: AsyncConnection, file: str) -> None:
        """Take another file at the path for the list from now on, and bring it to the newest revision."""
        self._close_to_others()
        if not (await connection.run_sync(migrating.revisions)).newest_stands:
            await connection.rollback()
            try:
                async with self._writer.begin() as writing:
                    await writing.run_sync(migrating.upgrade)
            except CommandError as error:
                raise self.unavailable(f"a file of another bridge stands there now ({error})") from error
        await connection.rollback()
        ((entries, changes),) = await self._asked(connection, _HOLDS)
        async with self._writer.begin() as writing:
            for statement in _NUMBERS_GO_ON.split(";"):
                await writing.exec_driver_sql(statement, {"newest": self._known.newest_change})
        self._adopted = file
        log.error(
            "another file is the list now: what only the one before had can be replayed from the archive",
            action="suppression.adopted",
            entries=entries,
            newest_change=changes,
            entries_before=self._known.entries,
            newest_change_before=self._known.newest_change,
        )

    async def _asked(self, connection: AsyncConnection, statement: str) -> Any:
        """The rows of a statement outside of any transaction."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            return await driver.execute_fetchall(statement)
        except sqlite3.Error as error:
            raise self.unavailable(error) from error

    def explanation(self, error: Exception) -> StoreError | None:
        if isinstance(error, DataError | IntegrityError):
            return self.refused(error.orig)
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return self.refused(error)  # the driver's own, for a value that it cannot even hand over
        if isinstance(error, DBAPIError):
            passing = (
                error.connection_invalidated
                or isinstance(error, OperationalError | InterfaceError)
                or (self._adopted is not None and str(error.orig) == _NO_DATABASE)  # somebody may mend it
            )
            return self.unavailable(error.orig) if passing else self.broken(error.orig)
        return None


def _engine(url: URL) -> AsyncEngine:
    url = url.update_query_dict({"timeout": str(BUSY_TIMEOUT)} | dict(url.query))
    try:
        # sqlite3 must not begin transactions by itself: `_begin` does.
        engine = create_async_engine(
            url, connect_args={"isolation_level": None, "factory": sqlite_file.OpenList}
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
        cursor.execute(sqlite_file.STATE)  # it has opened all its files now, and remembers which they are
        cursor.close()
    except sqlite3.Error:
        connection.close()  # the pool has not taken it yet, and would leave its thread running
        raise


def _begin(connection: Connection) -> None:
    # A write that begins as a read cannot wait for another writer: SQLite refuses to upgrade it, at once.
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)
