"""How a session with PostgreSQL is opened: its settings, also through a pooler, which must leave us the session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from bridge.suppression import tls_files

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_SECONDS: Final = 5.0
"""Timeout of the log-in, and then of the session's settings."""
CLOSE_SECONDS: Final = 0.3
"""What PostgreSQL may take to answer that a connection is closed; it notices itself when one is gone."""
_PROBE_SECONDS: Final = 2.0
"""For a second session of a pooler. It has none to give where each client keeps its own, and it is short of them."""
_PROBES: Final = 3
"""Other clients of the pooler may take the session that is looked for; not again and again."""

_APPLICATION_NAME: Final = "bridge"
_NOT_TAKEN: Final = "unsupported startup parameter"
_NO_TRANSACTION: Final = "transaction blocks not allowed"
"""What PgBouncer says in statement mode."""
NO_SESSION: Final = (
    "a connection pooler in front of it gives each transaction another session: the bridge needs settings and "
    "prepared statements that stay; use pool_mode = session for it, or PostgreSQL's own port"
)


class Connection(asyncpg.Connection):  # type: ignore[misc]  # it comes without types
    """A connection that is closed at once, whether the server answers or not, so that stopping does not wait for it."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as there
        """Close it in order where PostgreSQL answers, else cut it."""
        del timeout
        with suppress(TimeoutError):
            await super().close(timeout=CLOSE_SECONDS)


class Sessions:
    """Opens sessions of one kind. Through a pooler it checks once whether a session stays with its client."""

    def __init__(self, dsn: str, settings: Mapping[str, str], *, command_timeout: float) -> None:
        """Take what they all have.

        Args:
            dsn: as asyncpg takes it.
            settings: PostgreSQL's, which hold for the whole session.
            command_timeout: seconds without an answer after which a connection counts as lost.
        """
        self._dsn = dsn
        # Said once it is open: poolers refuse start-up parameters that they do not know.
        self._say_settings = "SELECT " + ", ".join(
            f"set_config('{name}', '{value}', false)" for name, value in settings.items()
        )
        self._command_timeout = command_timeout
        self._looked = False

    async def open(self) -> Connection:
        """A session with its settings.

        Raises:
            asyncpg.ClientConfigurationError: what the settings of the bridge say leads to none.
            asyncpg.PostgresError, OSError: as asyncpg.
        """
        connection = await self._connect()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.execute(self._say_settings)
            if not self._looked:
                if await _is_pooled(connection) and await self._changes_hands(connection):
                    raise asyncpg.ClientConfigurationError(NO_SESSION)  # noqa: TRY301 -- closes it like any other
                self._looked = True
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _connect(self) -> Connection:
        try:
            connection: Connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=self._command_timeout,
                server_settings={"application_name": _APPLICATION_NAME},
                connection_class=Connection,
            )
        except ValueError as error:
            raise asyncpg.ClientConfigurationError(str(error)) from error
        except asyncpg.ProtocolViolationError as error:
            if _NOT_TAKEN not in str(error):
                raise
            raise asyncpg.ClientConfigurationError(
                f"the connection pooler in front of it says: {error}; take it out of the URL"
            ) from error
        except OSError as error:
            if not (reason := tls_files.unusable_file(self._dsn, error)):
                raise
            raise asyncpg.ClientConfigurationError(reason) from error
        return connection

    async def _changes_hands(self, connection: Connection) -> bool:
        """Whether this session is another's as soon as it is idle: another client gets it, or we get another one."""
        try:
            ours = await _backend(connection)
            other = await self._connect()
            try:
                for _ in range(_PROBES):
                    async with asyncio.timeout(_PROBE_SECONDS), other.transaction():
                        if await _backend(other) == ours or await _backend(connection) != ours:
                            return True
            finally:
                other.terminate()
        except TimeoutError:
            return False  # it has no second one to give: ours is kept for us
        except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
            return True
        return False


async def _is_pooled(connection: Connection) -> bool:
    """A pooler makes up the process that it names to its client at the log-in."""
    try:
        return bool(await _backend(connection) != connection.get_server_pid())
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError) as error:
        raise asyncpg.ClientConfigurationError(NO_SESSION) from error
    except (asyncpg.PostgresConnectionError, asyncpg.ProtocolViolationError) as error:
        if _NO_TRANSACTION not in str(error):
            raise
        raise asyncpg.ClientConfigurationError(NO_SESSION) from error


async def _backend(connection: Connection) -> Any:
    """The process of PostgreSQL that a client has now; asked in a transaction, in which it keeps it."""
    async with connection.transaction():
        return await connection.fetchval("SELECT pg_backend_pid()")
