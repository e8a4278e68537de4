"""The engine under the list: how a SQLite file is opened, migrated, read and written, and how that fails."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import AsyncRetrying, retry_if_exception_message, stop_after_delay, wait_random

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from typing import Self

    from sqlalchemy import URL, Connection, Table
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's write before the database counts as locked; `?timeout=` in the URL wins."""

PARAMETERS: Final = 500
"""Values in one IN list: SQLite before 3.32 takes 999 parameters, asyncpg 32,767."""

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BEGIN: Final = "bridge_begin"
_SETTING: Final = "suppression.database_url (BRIDGE_SUPPRESSION__DATABASE_URL)"


class StoreError(Exception):
    """The suppression list cannot do what it was asked. The message is one line that says why."""


class StoreUnavailableError(StoreError):
    """It cannot do it now: locked, full, or the connection is lost. Wait, and ask again."""


class RefusedValueError(StoreError):
    """It cannot take one of the values that it was given; nothing was changed. Others it can."""


def uninterrupted(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A method that, when its caller is cancelled, first does what it has begun.

    aiosqlite's thread cannot be stopped in the middle of a statement: a transaction that was abandoned would
    keep SQLite's lock. It takes milliseconds, or at most as long as another process holds that lock.
    """

    @functools.wraps(method)
    async def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        return await _to_its_end(method(*args, **kwargs))

    return whole


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work, name="suppression list")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller gets to know
        raise cancelled
    return task.result()


class Database:
    """One engine. Everything that goes wrong inside `read` and `write` comes out as a `StoreError`."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        """Take the engine, and the name under which errors speak of it."""
        self._engine = engine
        self._writer = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._name = name
        # SQLite has one writer: those of this process queue here, in order, instead of in its busy loop.
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, database_url: str, *, create: bool) -> AsyncIterator[Self]:
        """The database at its newest revision.

        Args:
            database_url: `sqlite+aiosqlite:///file`; a plain `sqlite:///file` is the same.
            create: make the file where there is none.

        Raises:
            StoreError: the URL cannot be used, there is no such folder or file, or a newer bridge wrote it.
            StoreUnavailableError: it is locked, or cannot be opened.
        """
        url = _sqlite_url(database_url)
        _look_for(Path(str(url.database)), create=create)
        engine = _sqlite_engine(url)
        try:
            database = cls(engine, str(url.database))
            await database._migrate()
            yield database
        finally:
            await _to_its_end(engine.dispose())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. SQLite's never waits for a writer."""
        with self._explained():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end, rolled back whole when an exception leaves it."""
        with self._explained():
            async with self._turn, self._writer.begin() as connection:
                yield connection

    async def _is_newest(self) -> bool:
        # Where several open a new file at once, switching it to WAL fails without SQLite's own waiting.
        attempts = AsyncRetrying(
            retry=retry_if_exception_message(match=".*database is locked$"),
            stop=stop_after_delay(BUSY_TIMEOUT),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                async with self.read() as connection:
                    newest = await connection.run_sync(_is_newest)
        return newest

    @uninterrupted
    async def _migrate(self) -> None:
        if await self._is_newest():
            return
        async with self.write() as connection:
            # A second opener waits here for the first, and then finds nothing left to do.
            try:
                await connection.run_sync(_upgrade)
            except CommandError as error:
                raise StoreError(
                    f"{self._name} cannot be migrated ({error}); was it written by a newer bridge?"
                ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError) as error:
            raise RefusedValueError(
                f"the suppression list {self._name} refuses a value: {error.orig}"
            ) from error
        except (UnicodeEncodeError, OverflowError) as error:
            # The driver's own, for a value that it cannot even hand over.
            raise RefusedValueError(f"the suppression list {self._name} refuses a value: {error}") from error
        except DBAPIError as error:
            passing = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
            if passing:
                raise StoreUnavailableError(
                    f"the suppression list {self._name} cannot be used now: {error.orig}"
                ) from error
            raise StoreError(f"the suppression list {self._name} failed: {error.orig}") from error
        except PoolTimeoutError as error:
            raise StoreUnavailableError(
                f"the suppression list {self._name} cannot be used now: all connections are in use"
            ) from error
        except SQLAlchemyError as error:
            raise StoreError(f"the suppression list {self._name} failed: {error}") from error


def inserting(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the dialect of this connection."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def chunks(values: Sequence[T], size: int = PARAMETERS) -> Iterator[Sequence[T]]:
    """The values in pieces that fit an IN list."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _sqlite_url(database_url: str) -> URL:
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise StoreError(f"{_SETTING} is not a database URL; write sqlite+aiosqlite:///file") from None
    if url.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        raise StoreError(
            f"{_SETTING} names {url.drivername}; this bridge keeps the list in sqlite+aiosqlite:///file"
        )
    if url.database in {None, "", ":memory:"}:
        raise StoreError(f"{_SETTING} names no file: a list in memory would be lost with the process")
    return url.set(drivername="sqlite+aiosqlite")


def _look_for(file: Path, *, create: bool) -> None:
    if not file.parent.is_dir():
        raise StoreError(
            f"there is no folder {file.parent} for the suppression list; make it, or set {_SETTING}"
        )
    if not create and not file.exists():
        raise StoreError(f"there is no suppression list at {file}; start a worker on it, or set {_SETTING}")
    # aiosqlite answers a file that cannot be opened while its thread still ends, which a closing loop reports.
    try:
        sqlite3.connect(file).close()
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"the suppression list {file} cannot be opened: {error}") from error


def _sqlite_engine(url: URL) -> AsyncEngine:
    url = url.update_query_dict({"timeout": str(BUSY_TIMEOUT)} | dict(url.query))
    try:
        # sqlite3 must not begin transactions by itself: `_begin` does.
        engine = create_async_engine(url, connect_args={"isolation_level": None})
    except (ValueError, TypeError) as error:
        raise StoreError(f"{_SETTING} has an option that SQLite cannot take: {error}") from None
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
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _is_newest(connection: Connection) -> bool:
    newest = ScriptDirectory.from_config(_alembic()).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == newest


def _upgrade(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
