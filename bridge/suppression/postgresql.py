"""The list in PostgreSQL, for workers on several machines: connections, and the meaning of errors."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine

from bridge.suppression import postgresql_url, postgresql_vacuum, privileges
from bridge.suppression.database import Database
from bridge.suppression.errors import SETTING, NoListError, StoreError
from bridge.suppression.postgresql_session import CLOSE_SECONDS, CONNECT_SECONDS, Sessions
from bridge.suppression.sqlstates import ErrorKind, kind_of, may_be_session_setting, reason_of
from bridge.text import first_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from bridge.suppression.migrating import Revisions
    from bridge.suppression.privileges import Role

MIGRATION_LOCK: Final = 0x627269646765_0001
"""Key of the advisory lock under which one process migrates: `bridge` in ASCII, then 1."""

COMMAND_SECONDS: Final = 15.0
"""A connection without an answer for this time counts as lost. This is longer than PostgreSQL's own timeouts."""
_MIGRATION_SECONDS: Final = 3600.0
"""The same for one statement of a migration: an index on a long list takes long."""

_CONNECTIONS_LEFT: Final = text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
    "- count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
)

_CONNECTIONS: Final = 4
"""For a worker's batch, its relay, its metrics, and one more."""

_SETTINGS: Final = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    # A plan that is kept was made for the list as it was then, perhaps an empty one: plan for the list as it is.
    "plan_cache_mode": "force_custom_plan",
    # A worker that is stopped in a transaction (SIGSTOP, a frozen machine) must not keep its locks.
    "idle_in_transaction_session_timeout": "10s",
    # A worker whose machine is gone must not keep its locks for the two hours that TCP waits by default.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
_SETTINGS_OF_A_MIGRATION: Final = _SETTINGS | {"statement_timeout": "0"}


class PostgresqlDatabase(Database):
    """A database on a server, shared by several processes.

    When the caller is cancelled, a transaction is finished if PostgreSQL answers within `abandon_after` seconds. If not, the
    connection is closed, which rolls the transaction back: a stop never waits for a server that is gone.
    """

    abandon_after: ClassVar[float | None] = 0.5
    # A batch reaches into each domain's part of the index by domain: fewer batches write these pages less often.
    import_batch: ClassVar[int] = 12_000

    def __init__(self, database_url: str) -> None:
        """Args: the URL. Nothing is connected.

        Raises:
            StoreError: the URL cannot be read.
        """
        address = postgresql_url.parse(database_url)
        self._dsn = address.dsn
        self._opened = False
        super().__init__(_engine(self._dsn, _SETTINGS, COMMAND_SECONDS), address.name)
        self._autocommit_writer = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._autocommit_reader = self._autocommit_writer

    def check_before_connecting(self, *, create: bool) -> None:
        """Nothing is known without a connection."""

    async def open(self, *, create: bool, role: Role) -> None:
        found = await self.revisions()
        if found.current is None and not create:
            raise NoListError(
                f"there is no suppression list in {self.name}; run `bridge db upgrade`, start a worker on it, "
                f"or set {SETTING}"
            )
        if not found.is_newest:
            await self.migrate()
        if create:
            async with self.read() as connection:
                missing = await privileges.missing_privileges(connection, role)
            if missing:
                raise StoreError(
                    f"the user of the suppression list {self.name} may not {', '.join(missing)}: "
                    "have the owner grant it"
                )
        self._opened = True

    async def connections_left(self) -> int:
        async with self.read() as connection:
            return int(await connection.scalar(_CONNECTIONS_LEFT) or 0)

    async def grant_api(self, user: str) -> None:
        async with self.write() as connection:
            await privileges.grant_api(connection, user)

    async def migrate(self) -> Revisions:
        try:
            return await super().migrate()
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, DBAPIError) and kind_of(cause) is ErrorKind.ACCESS:
                raise StoreError(
                    f"the suppression list {self.name} has to be migrated, and this user may not "
                    f"({reason_of(cause)}): run `bridge db upgrade` as its owner"
                ) from error
            raise

    @asynccontextmanager
    async def _migration(self) -> AsyncIterator[AsyncConnection]:
        engine = _engine(self._dsn, _SETTINGS_OF_A_MIGRATION, _MIGRATION_SECONDS)
        try:
            with self.translated_errors():
                async with engine.begin() as connection:
                    # Without the lock within lock_timeout, the list is unavailable.
                    await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                    yield connection
        finally:
            await engine.dispose()

    async def vacuum(self) -> None:
        engine = _engine(self._dsn, _SETTINGS_OF_A_MIGRATION, _MIGRATION_SECONDS)
        try:
            with self.translated_errors():
                await postgresql_vacuum.vacuum(engine)
        except postgresql_vacuum.NotVacuumedError as error:
            raise StoreError(f"the suppression list {self.name} {error}") from error
        finally:
            await engine.dispose()

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECTIONS * CLOSE_SECONDS):
                await super().close()

    def translated(self, error: Exception) -> StoreError | None:
        if isinstance(error, DBAPIError):
            explain = {
                ErrorKind.VALUE: self.refused,
                ErrorKind.ACCESS: self._no_access,
                ErrorKind.TRANSIENT: self.unavailable,
                ErrorKind.BROKEN: self.broken,
            }
            return explain[kind_of(error)](reason_of(error))
        if isinstance(error, TimeoutError):
            return self.unavailable("it does not answer")
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._no_access(error.verify_message)
        return self.unavailable(first_line(error)) if isinstance(error, OSError) else None

    def _no_access(self, reason: object) -> StoreError:
        """Before the first success the settings are wrong; later somebody is changing a password or a grant."""
        if self._opened:
            return self.unavailable(reason)
        return StoreError(f"the suppression list {self.name} cannot be used: {reason}; see {SETTING}")


def _engine(dsn: str, settings: dict[str, str], command_timeout: float) -> AsyncEngine:
    sessions = Sessions(dsn, settings, command_timeout=command_timeout)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=sessions.open,
        isolation_level="READ COMMITTED",  # not the server's default: counts are exact because an INSERT of the same event id waits
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    event.listen(engine.sync_engine, "handle_error", _discard_lost)
    return engine


def _replace_closed(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxied: PoolProxiedConnection
) -> None:
    """Replace a connection that the server has closed. Unlike a ping this takes no round trip."""
    del connection, proxied
    driver: Any = record.driver_connection
    if driver is None or driver.is_closed():
        raise DisconnectionError("PostgreSQL has closed the connection")


def _discard_lost(context: ExceptionContext) -> None:
    """Mark a connection as lost, with which SQLAlchemy replaces all connections of the pool.

    After a command without an answer the state of a connection is unknown.
    """
    error = context.original_exception
    if isinstance(error, OSError) or may_be_session_setting(error):
        context.is_disconnect = True
