"""The database under the list, whichever it is: how it is read, written and migrated, and how that fails."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, ParamSpec, Protocol, TypeVar

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.suppression import migrating
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from bridge.suppression.migrating import Revisions

P = ParamSpec("P")
T = TypeVar("T")

log = logs.logger("suppression")

SETTING: Final = "suppression.database_url (BRIDGE_SUPPRESSION__DATABASE_URL)"


class StoreError(Exception):
    """The suppression list cannot do what it was asked. The message is one line that says why."""


class StoreUnavailableError(StoreError):
    """It cannot do it now: locked, full, or the connection is lost. Wait, and ask again."""


class NoListError(StoreError):
    """Nobody has made a list there yet."""


class RefusedValueError(StoreError):
    """It cannot take one of the values that it was given; nothing was changed. Others it can."""


class Database(ABC):
    """One engine. Everything that goes wrong inside `read` and `write` comes out as a `StoreError`."""

    patience: ClassVar[float | None]
    """Seconds that a method which was begun may go on when its caller is cancelled; None: to its end."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        """Take the engine, and the name under which errors speak of it."""
        self.name = name
        self._engine = engine
        self._writer = engine
        self._singly = engine
        self._turn: AbstractAsyncContextManager[Any] = nullcontext()
        """Entered by each who writes."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. It never waits for a writer."""
        with self.explained():
            async with self._connected(self._engine) as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end, rolled back whole when an exception leaves it."""
        with self.explained():
            async with self._turn, self._connected(self._writer) as connection:
                async with connection.begin():
                    yield connection
                await self._committed(connection)

    @asynccontextmanager
    async def write_singly(self) -> AsyncIterator[AsyncConnection]:
        """Statements that are each a transaction of their own: who is stopped between two of them locks nothing."""
        with self.explained():
            async with self._turn, self._connected(self._singly) as connection:
                yield connection
                await self._committed(connection)

    def _connected(self, engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection to the list as it is now."""
        return engine.connect()

    async def _committed(self, connection: AsyncConnection) -> None:  # noqa: B027 -- most have nothing to look at
        """Raises StoreUnavailableError where what was committed on this connection is not in the list after all."""

    async def revisions(self) -> Revisions:
        """Where the database stands.

        Raises:
            StoreError: it cannot be asked (`StoreUnavailableError` where waiting may help).
        """
        async with self.read() as connection:
            return await connection.run_sync(migrating.revisions)

    async def connections_left(self) -> int | None:
        """How many more processes could connect; None where nothing limits them.

        Raises:
            StoreError: it cannot be asked (`StoreUnavailableError` where waiting may help).
        """
        return None

    @abstractmethod
    def look(self, *, create: bool) -> None:
        """Raises StoreError where it is plain before anybody connects that there is no list."""

    @abstractmethod
    async def open(self, *, create: bool) -> None:
        """Bring the list to the newest revision; for `create` from nothing."""

    async def migrate(self) -> Revisions:
        """Bring it to the newest revision, one process at a time; answers from where to where it was brought.

        Raises:
            StoreError: it cannot be, or a newer bridge wrote it.
            StoreUnavailableError: not now.
        """
        async with self._migration() as connection:
            try:
                before = await connection.run_sync(migrating.upgrade)
            except CommandError as error:
                raise StoreError(
                    f"{self.name} cannot be migrated ({error}); was it written by a newer bridge?"
                ) from error
        if before.current is None:
            log.info("there was no list: an empty one is made", action="suppression.created")
        return before

    def _migration(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction in which no other process migrates."""
        return self.write()

    async def close(self) -> None:
        """Leave nothing open."""
        await self._engine.dispose()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What goes wrong inside comes out as a `StoreError`."""
        try:
            yield
        except PoolTimeoutError as error:
            raise StoreUnavailableError(
                f"the suppression list {self.name} cannot be used now: all connections are in use"
            ) from error
        except (SQLAlchemyError, OSError, ValueError, OverflowError) as error:
            if (explanation := self.explanation(error)) is not None:
                raise explanation from error
            if isinstance(error, SQLAlchemyError):
                raise self.broken(error) from error
            raise

    @abstractmethod
    def explanation(self, error: Exception) -> StoreError | None:
        """What an error of the driver means; None where it is none of the driver's, or just that something broke."""

    def unavailable(self, reason: object) -> StoreUnavailableError:
        return StoreUnavailableError(f"the suppression list {self.name} cannot be used now: {reason}")

    def refused(self, reason: object) -> RefusedValueError:
        return RefusedValueError(f"the suppression list {self.name} refuses a value: {reason}")

    def broken(self, reason: object) -> StoreError:
        return StoreError(f"the suppression list {self.name} failed: {reason}")


class _HasDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_HasDatabase)


def uninterrupted(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A method that, when its caller is cancelled, first does what it has begun.

    It takes milliseconds. A database that does not answer gets its `patience`; then the transaction is abandoned,
    which rolls it back.
    """

    @functools.wraps(method)
    async def whole(of: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await to_its_end(method(of, *args, **kwargs), patience=of._database.patience)  # noqa: SLF001 -- the method's own

    return whole


async def to_its_end(work: Coroutine[Any, Any, T], *, patience: float | None = None) -> T:
    """Do the work; who is cancelled meanwhile hears of it afterwards, or when the patience (seconds) has run out."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work, name="suppression list")
    cancelled: asyncio.CancelledError | None = None
    abandoning: asyncio.TimerHandle | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None and patience is not None:
                abandoning = loop.call_later(patience, task.cancel)
            cancelled = error
    if abandoning is not None:
        abandoning.cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller gets to know
        raise cancelled
    return task.result()


def one_line(text: object) -> str:
    """The first line of what a driver says; what follows quotes rows and statements."""
    return next(iter(str(text).splitlines()), "")
