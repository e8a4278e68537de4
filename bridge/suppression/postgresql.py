"""The list in PostgreSQL, for workers on several machines: how it is reached, and how it fails."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine

from bridge.suppression import postgresql_url, privileges
from bridge.suppression.database import SETTING, Database, NoListError, StoreError, one_line
from bridge.suppression.postgresql_session import CLOSE_SECONDS, CONNECT_SECONDS, Sessions
from bridge.suppression.sqlstates import Kind, kind_of, may_be_the_session, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from bridge.suppression.migrating import Revisions

MIGRATION_LOCK: Final = 0x627269646765_0001
"""Key of the advisory lock under which one process migrates: `bridge` in ASCII, then 1."""

COMMAND_SECONDS: Final = 15.0
"""Without an answer after which a connection counts as lost: longer than PostgreSQL's own patience with us."""
_MIGRATION_SECONDS: Final = 3600.0
"""The same, for one step of a migration: an index on a long list takes its time."""

_CONNECTIONS_LEFT: Final = text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
    "- count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
)

_CONNECTIONS: Final = 4
"""A worker's batch, its relay, and a little."""

_SETTINGS: Final = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    # A plan that is kept was made for the list as it was then, perhaps an empty one: plan for the list as it is.
    "plan_cache_mode": "force_custom_plan",
    # A worker that stands still (SIGSTOP, a frozen machine) in the middle of a transaction shall not keep its locks.
    "idle_in_transaction_session_timeout": "10s",
    # A worker whose machine is gone shall not keep its locks for the two hours that TCP waits by default.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
_SETTINGS_OF_A_MIGRATION: Final = _SETTINGS | {"statement_timeout": "0"}


class PostgresqlDatabase(Database):
    """A database on a server, shared by as many processes as there are.

    What was begun is finished when its caller is cancelled, if PostgreSQL answers within the patience; where it does
    not, the connection is closed and the transaction with it, so that no stop waits for a server that is gone.
    """

    patience: ClassVar[float | None] = 0.5

    def __init__(self, database_url: str) -> None:
        """Take the URL; nothing is connected.

        Raises:
            StoreError: it cannot be one.
        """
        address = postgresql_url.of(database_url)
        self._dsn = address.dsn
        self._opened = False
        super().__init__(_engine(self._dsn, _SETTINGS, COMMAND_SECONDS), address.name)
        self._singly = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def look(self, *, create: bool) -> None:
        """Nothing is plain before somebody connects."""

    async def open(self, *, create: bool) -> None:
        found = await self.revisions()
        if found.current is None and not create:
            raise NoListError(
                f"there is no suppression list in {self.name}; run `bridge db upgrade`, start a worker on it, "
                f"or set {SETTING}"
            )
        if not found.newest_stands:
            await self.migrate()
        if create:
            async with self.read() as connection:
                missing = await privileges.missing(connection)
            if missing:
                raise StoreError(
                    f"the user of the suppression list {self.name} may not {', '.join(missing)}: "
                    "have the owner grant it"
                )
        self._opened = True

    async def connections_left(self) -> int:
        async with self.read() as connection:
            return int(await connection.scalar(_CONNECTIONS_LEFT) or 0)

    async def migrate(self) -> Revisions:
        try:
            return await super().migrate()
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, DBAPIError) and kind_of(cause) is Kind.ACCESS:
                raise StoreError(
                    f"the suppression list {self.name} has to be migrated, and this user may not "
                    f"({reason_of(cause)}): run `bridge db upgrade` as its owner"
                ) from error
            raise

    @asynccontextmanager
    async def _migration(self) -> AsyncIterator[AsyncConnection]:
        engine = _engine(self._dsn, _SETTINGS_OF_A_MIGRATION, _MIGRATION_SECONDS)
        try:
            with self.explained():
                async with engine.begin() as connection:
                    # Who does not get it within the lock_timeout hears that the list is not available now.
                    await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                    yield connection
        finally:
            await engine.dispose()

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECTIONS * CLOSE_SECONDS):
                await super().close()

    def explanation(self, error: Exception) -> StoreError | None:
        if isinstance(error, DBAPIError):
            explain = {
                Kind.VALUE: self.refused,
                Kind.ACCESS: self._no_access,
                Kind.PASSING: self.unavailable,
                Kind.BROKEN: self.broken,
            }
            return explain[kind_of(error)](reason_of(error))
        if isinstance(error, TimeoutError):
            return self.unavailable("it does not answer")
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._no_access(error.verify_message)
        return self.unavailable(one_line(error)) if isinstance(error, OSError) else None

    def _no_access(self, reason: object) -> StoreError:
        """Before anything went well it is a mistake in the settings; later somebody changes a password or a grant."""
        if self._opened:
            return self.unavailable(reason)
        return StoreError(f"the suppression list {self.name} cannot be used: {reason}; see {SETTING}")


def _engine(dsn: str, settings: dict[str, str], command_timeout: float) -> AsyncEngine:
    sessions = Sessions(dsn, settings, command_timeout=command_timeout)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=sessions.open,
        isolation_level="READ COMMITTED",  # whatever the server's default: counts are exact because a claim waits
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _must_be_open)
    event.listen(engine.sync_engine, "handle_error", _lost)
    return engine


def _must_be_open(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxied: PoolProxiedConnection
) -> None:
    """A connection that the server has closed meanwhile is replaced; that costs no question, as a ping would."""
    del connection, proxied
    driver: Any = record.driver_connection
    if driver is None or driver.is_closed():
        raise DisconnectionError("PostgreSQL has closed the connection")


def _lost(context: ExceptionContext) -> None:
    """Which connections are not used again: with one of these all that the pool has are replaced.

    After a command that was not answered in time nobody knows what a connection is in the middle of.
    """
    error = context.original_exception
    if isinstance(error, OSError) or may_be_the_session(error):
        context.is_disconnect = True
