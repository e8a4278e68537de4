"""What an error of PostgreSQL means for a list, by its SQLSTATE (PostgreSQL's manual, appendix A)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import asyncpg

from bridge.suppression.database import one_line
from bridge.suppression.postgresql_session import NO_SESSION

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

_ARGUMENT: Final = re.compile(r"invalid input for query argument \$\d+: .* \((?P<why>.*)\)", re.DOTALL)
"""What asyncpg says of a value that it cannot hand over; it quotes the value, which may be an address."""


class Kind(Enum):
    VALUE = auto()
    """One of the values cannot be taken."""
    ACCESS = auto()
    """We may not: a wrong password, no such database, a right that is missing."""
    PASSING = auto()
    """Waiting may help."""
    BROKEN = auto()


_KINDS: Final = {
    # Whole classes, by their first two characters.
    "08": Kind.PASSING,  # connection exceptions
    "22": Kind.VALUE,  # data exceptions: a NUL in a text, a number out of range
    "23": Kind.VALUE,  # integrity constraints
    "28": Kind.ACCESS,  # invalid authorization
    "40": Kind.PASSING,  # rolled back: deadlock, serialization failure
    "53": Kind.PASSING,  # resources: disk full, out of memory, too many connections
    "54": Kind.VALUE,  # limits: a text that is too long for an index
    "57": Kind.PASSING,  # operator: shutting down, starting up, cancelled by a timeout
    "58": Kind.PASSING,  # the system under PostgreSQL: an I/O error
    # Single codes.
    "25006": Kind.PASSING,  # read-only: a standby, or its primary before a failover
    "25P03": Kind.PASSING,  # idle in a transaction for too long
    "26000": Kind.ACCESS,  # no such prepared statement: see _NOT_OUR_SESSION
    "3D000": Kind.ACCESS,  # no such database
    "3F000": Kind.ACCESS,  # no such schema
    "42501": Kind.ACCESS,  # insufficient privilege
    "42P05": Kind.ACCESS,  # a prepared statement of this name is there: see _NOT_OUR_SESSION
    "42P01": Kind.ACCESS,  # no such table: while somebody restores the list, or where the search_path is another
    "55006": Kind.PASSING,  # in use
    "55P03": Kind.PASSING,  # a lock that was not to be had
    "P0001": Kind.VALUE,  # a trigger of the owner's says no
}

_DRIVER_PASSING: Final = (
    asyncpg.InvalidCachedStatementError,  # somebody has migrated: the next time it is prepared anew
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.TargetServerAttributeNotMatched,  # no primary among the hosts now
)


_NOT_OUR_SESSION: Final = frozenset({"26000", "42P05"})
"""What we have prepared is in another session: a pooler has given ours to somebody else."""

_OF_THE_SESSION: Final = frozenset({"25006", "3F000", "42501", "42P01"}) | _NOT_OUR_SESSION
"""What may be due to settings that a session has had since it was opened: read-only, search_path, role."""


def may_be_the_session(error: BaseException) -> bool:
    """Whether a new session might be allowed what this one was refused.

    `ALTER DATABASE … SET` and `ALTER ROLE … SET` are for sessions that are opened later: those that are open when it
    is taken back keep what they have.
    """
    return getattr(error, "sqlstate", None) in _OF_THE_SESSION


def kind_of(error: DBAPIError) -> Kind:
    """What kind of error it is. The driver's own have no SQLSTATE."""
    driver = _cause(error)
    if isinstance(driver, _DRIVER_PASSING):
        return Kind.PASSING
    state = getattr(driver, "sqlstate", None)
    if state is not None:
        return _KINDS.get(state) or _KINDS.get(state[:2]) or Kind.BROKEN
    if isinstance(driver, asyncpg.ClientConfigurationError):
        return Kind.ACCESS
    if error.connection_invalidated or isinstance(
        driver, asyncpg.InterfaceError | asyncpg.InternalClientError
    ):
        return Kind.PASSING
    return Kind.BROKEN


def reason_of(error: DBAPIError) -> str:
    """Why, in one line that quotes no value."""
    cause = _cause(error)
    if getattr(cause, "sqlstate", None) in _NOT_OUR_SESSION:
        return NO_SESSION
    text = str(cause)
    if (refused := _ARGUMENT.search(text)) is not None:
        return one_line(refused["why"])
    return one_line(text)


def _cause(error: DBAPIError) -> BaseException:
    """The driver's own error: SQLAlchemy wraps it twice."""
    translated = error.orig
    return (translated and translated.__cause__) or translated or error
