"""What SQLite and PostgreSQL have in common as the list's database: reading, writing, migrating, and errors."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, ParamSpec, Protocol, TypeVar

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.suppression import migrating
from bridge.suppression.errors import RefusedValueError, StoreError, StoreUnavailableError
from bridge.tasks import run_shielded
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from bridge.suppression.migrating import Revisions
    from bridge.suppression.privileges import Role

P = ParamSpec("P")
T = TypeVar("T")

log = logs.logger("suppression")

TASK_NAME: Final = "suppression list"
"""What a shutdown's log calls work that is not done yet."""


class Database(ABC):
    """One engine. Errors inside `read` and `write` are raised as `StoreError`."""

    abandon_after: ClassVar[float | None]
    """Seconds for which a `shielded` method goes on when its caller is cancelled; None: until it is done."""
    import_batch: ClassVar[int]
    """Rows that an import puts on the list in one transaction: other writers wait for about half a second."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        """Args: the engine; the name of the database in error messages."""
        self.name = name
        self._engine = engine
        self._writer = engine
        self._autocommit_writer = engine
        self._autocommit_reader = engine
        self._write_lock: AbstractAsyncContextManager[Any] = nullcontext()
        """Entered for each write."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read transaction. It never waits for a writer."""
        with self.translated_errors():
            async with self._connected(self._engine) as connection:
                yield connection

    @asynccontextmanager
    async def read_autocommit(self) -> AsyncIterator[AsyncConnection]:
        """For one statement that reads: it saves the round trips of a transaction. It never waits for a writer."""
        with self.translated_errors():
            async with self._connected(self._autocommit_reader) as connection:
                yield connection

    async def fetch(
        self, connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of a statement that reads, of `read_autocommit`, in as few steps as the driver allows."""
        return (await connection.execute(statement, parameters)).all()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction: committed at the end, rolled back when an exception leaves it."""
        with self.translated_errors():
            async with self._write_lock, self._connected(self._writer) as connection:
                async with connection.begin():
                    yield connection
                await self._verify_commit(connection)

    @asynccontextmanager
    async def write_autocommit(self) -> AsyncIterator[AsyncConnection]:
        """Each statement is a transaction of its own: a process that is stopped between two of them holds no lock."""
        with self.translated_errors():
            async with self._write_lock, self._connected(self._autocommit_writer) as connection:
                yield connection
                await self._verify_commit(connection)

    def _connected(self, engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection to the current database."""
        return engine.connect()

    async def _verify_commit(self, connection: AsyncConnection) -> None:  # noqa: B027 -- only SQLite has something to verify
        """Raises StoreUnavailableError if what was committed on this connection is not in the list after all."""

    async def revisions(self) -> Revisions:
        """The revision of the database.

        Raises:
            StoreError: it cannot be asked (`StoreUnavailableError` where waiting may help).
        """
        async with self.read() as connection:
            return await connection.run_sync(migrating.revisions)

    async def connections_left(self) -> int | None:
        """How many more connections the database accepts; None if there is no limit.

        Raises:
            StoreError: it cannot be asked (`StoreUnavailableError` where waiting may help).
        """
        return None

    @abstractmethod
    def check_before_connecting(self, *, create: bool) -> None:
        """Raises StoreError if it is known without a connection that there is no list."""

    @abstractmethod
    async def open(self, *, create: bool, role: Role) -> None:
        """Migrate the list to the newest revision. With `create`, make it if there is none, and check the role's rights."""

    @abstractmethod
    async def grant_api(self, user: str) -> None:
        """Give this user of the database the rights that `bridge api` needs, and no others.

        Raises:
            StoreError: there are no users, or not this one, or we may not (`StoreUnavailableError` where waiting may help).
        """

    async def migrate(self) -> Revisions:
        """Migrate the list to the newest revision, one process at a time. Returns the revisions before.

        Raises:
            StoreError: it cannot be migrated, or a newer bridge wrote it.
            StoreUnavailableError: it cannot be migrated now.
        """
        async with self._migration() as connection:
            try:
                before = await connection.run_sync(migrating.upgrade)
            except CommandError as error:
                raise StoreError(
                    f"{self.name} cannot be migrated ({error}); was it written by a newer bridge?"
                ) from error
        if before.current is None:
            log.info("there was no suppression list: an empty one was made", action="suppression.created")
        return before

    def _migration(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction during which no other process can migrate."""
        return self.write()

    async def overwrite_deleted(self, connection: AsyncConnection) -> None:  # noqa: B027 -- only SQLite can
        """From now on what this connection deletes is overwritten in the file, where the database can do that."""

    async def discard_deleted(self) -> None:  # noqa: B027 -- only SQLite can
        """Discard the copies of deleted rows in the write-ahead log, where nobody reads them and the database can do that.

        Raises:
            StoreError: the database cannot be written.
        """

    @abstractmethod
    async def vacuum(self) -> None:
        """Write all tables anew, so that nothing of what was deleted is left in them. Meanwhile others cannot write.

        With PostgreSQL also the statistics that it has of the values in them.

        Raises:
            StoreError: the database cannot be written, or we may not do that, or something of what was deleted had to stay.
        """

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Errors of SQLAlchemy and the driver inside this context are raised as `StoreError`."""
        try:
            yield
        except PoolTimeoutError as error:
            raise StoreUnavailableError(
                f"the suppression list {self.name} cannot be used now: all connections are in use"
            ) from error
        except (SQLAlchemyError, OSError, ValueError, OverflowError) as error:
            if (translated := self.translated(error)) is not None:
                raise translated from error
            if isinstance(error, SQLAlchemyError):
                raise self.broken(error) from error
            raise

    @abstractmethod
    def translated(self, error: Exception) -> StoreError | None:
        """The `StoreError` for an error of the driver; None if the error is not the driver's, or means nothing special."""

    def unavailable(self, reason: object) -> StoreUnavailableError:
        """The error for a database that cannot be used now. Args: why, one line."""
        return StoreUnavailableError(f"the suppression list {self.name} cannot be used now: {reason}")

    def refused(self, reason: object) -> RefusedValueError:
        """The error for a value that the database refuses. Args: why, one line."""
        return RefusedValueError(f"the suppression list {self.name} refuses a value: {reason}")

    def broken(self, reason: object) -> StoreError:
        """The error for a failure that waiting does not mend. Args: why, one line."""
        return StoreError(f"the suppression list {self.name} failed: {reason}")


class _HasDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_HasDatabase)


def shielded(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A method that finishes what it has begun when its caller is cancelled, and only then raises CancelledError.

    That takes milliseconds. If the database does not answer within `abandon_after` seconds, the transaction is abandoned, which
    rolls it back.
    """

    @functools.wraps(method)
    async def whole(of: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        abandon_after = of._database.abandon_after  # noqa: SLF001 -- the method's own
        return await run_shielded(method(of, *args, **kwargs), name=TASK_NAME, abandon_after=abandon_after)

    return whole
