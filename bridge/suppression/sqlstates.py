"""The meaning of PostgreSQL's errors, by SQLSTATE (PostgreSQL's manual, appendix A)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import asyncpg

from bridge.suppression.postgresql_session import NO_SESSION
from bridge.text import first_line

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

_ARGUMENT: Final = re.compile(r"invalid input for query argument \$\d+: .* \((?P<why>.*)\)", re.DOTALL)
"""asyncpg's message for a value that it cannot encode. It quotes the value, which may be an address."""


class ErrorKind(Enum):
    """What an error of PostgreSQL means for us."""

    VALUE = auto()
    """A value is refused."""
    ACCESS = auto()
    """Access is denied: a wrong password, no such database, a missing privilege."""
    TRANSIENT = auto()
    """Waiting may help."""
    BROKEN = auto()


_ERROR_KINDS: Final = {
    # Whole classes, by their first two characters.
    "08": ErrorKind.TRANSIENT,  # connection exceptions
    "22": ErrorKind.VALUE,  # data exceptions: a NUL in a text, a number out of range
    "23": ErrorKind.VALUE,  # integrity constraints
    "28": ErrorKind.ACCESS,  # invalid authorization
    "40": ErrorKind.TRANSIENT,  # rolled back: deadlock, serialization failure
    "53": ErrorKind.TRANSIENT,  # resources: disk full, out of memory, too many connections
    "54": ErrorKind.VALUE,  # limits: a text that is too long for an index
    "57": ErrorKind.TRANSIENT,  # operator: shutting down, starting up, cancelled by a timeout
    "58": ErrorKind.TRANSIENT,  # the system under PostgreSQL: an I/O error
    # Single codes.
    "25006": ErrorKind.TRANSIENT,  # read-only: a standby, or its primary before a failover
    "25P03": ErrorKind.TRANSIENT,  # idle in a transaction for too long
    "26000": ErrorKind.ACCESS,  # no such prepared statement: see _NOT_OUR_SESSION
    "3D000": ErrorKind.ACCESS,  # no such database
    "3F000": ErrorKind.ACCESS,  # no such schema
    "42501": ErrorKind.ACCESS,  # insufficient privilege
    "42P05": ErrorKind.ACCESS,  # a prepared statement of this name is there: see _NOT_OUR_SESSION
    "42P01": ErrorKind.ACCESS,  # no such table: while somebody restores the list, or where the search_path is another
    "55006": ErrorKind.TRANSIENT,  # in use
    "55P03": ErrorKind.TRANSIENT,  # a lock was not available
    "P0001": ErrorKind.VALUE,  # a trigger of the owner refuses
}

_TRANSIENT_DRIVER_ERRORS: Final = (
    asyncpg.InvalidCachedStatementError,  # after a migration; the statement is prepared again next time
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.TargetServerAttributeNotMatched,  # none of the hosts is a primary now
)


_NOT_OUR_SESSION: Final = frozenset({"26000", "42P05"})
"""Our prepared statements are in another session: a pooler has given that session to another client."""

_SESSION_STATES: Final = frozenset({"25006", "3F000", "42501", "42P01"}) | _NOT_OUR_SESSION
"""Errors that may be due to settings of the session: read-only, search_path, role."""


def may_be_session_setting(error: BaseException) -> bool:
    """Whether a new session might succeed where this one was refused.

    `ALTER DATABASE … SET` and `ALTER ROLE … SET` apply to sessions that are opened later. Sessions that are open when such
    a setting is reverted keep it.
    """
    return getattr(error, "sqlstate", None) in _SESSION_STATES


def kind_of(error: DBAPIError) -> ErrorKind:
    """The kind of an error. The driver's own errors have no SQLSTATE."""
    driver = _cause(error)
    if isinstance(driver, _TRANSIENT_DRIVER_ERRORS):
        return ErrorKind.TRANSIENT
    state = getattr(driver, "sqlstate", None)
    if state is not None:
        return _ERROR_KINDS.get(state) or _ERROR_KINDS.get(state[:2]) or ErrorKind.BROKEN
    if isinstance(driver, asyncpg.ClientConfigurationError):
        return ErrorKind.ACCESS
    if error.connection_invalidated or isinstance(
        driver, asyncpg.InterfaceError | asyncpg.InternalClientError
    ):
        return ErrorKind.TRANSIENT
    return ErrorKind.BROKEN


def reason_of(error: DBAPIError) -> str:
    """The reason, as one line that quotes no value."""
    cause = _cause(error)
    if getattr(cause, "sqlstate", None) in _NOT_OUR_SESSION:
        return NO_SESSION
    text = str(cause)
    if (refused := _ARGUMENT.search(text)) is not None:
        return first_line(refused["why"])
    return first_line(text)


def _cause(error: DBAPIError) -> BaseException:
    """The driver's error, which SQLAlchemy wraps twice."""
    translated = error.orig
    return (translated and translated.__cause__) or translated or error
