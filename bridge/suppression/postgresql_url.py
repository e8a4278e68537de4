"""Reads a PostgreSQL URL of `suppression.database_url`, in the spellings that are common.

SQLAlchemy's `make_url` does not do: it refuses several hosts with ports, and takes a part of an unescaped password for the
host, so that an error message would show it.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from bridge.suppression.errors import SETTING, StoreError

SCHEMES: Final = frozenset({"postgresql+asyncpg", "postgresql", "postgres"})
_PORT: Final = "5432"


class DatabaseAddress(NamedTuple):
    """The DSN of a database, and its name in error messages."""

    dsn: str
    """For asyncpg, in libpq's form, with the password."""
    name: str
    """`host:port/database`, without user and password."""


def parse(database_url: str) -> DatabaseAddress:
    """Read `postgresql+asyncpg://user:password@host:port/database`, with libpq's parameters.

    Raises:
        StoreError: it cannot be read.
    """
    _, _, rest = database_url.partition("://")
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError:
        raise _unreadable("it is not a URL") from None
    # An unescaped character in the password splits the URL in the wrong place. Part of the password would be taken for
    # the host or the database, and be shown in messages.
    if parts.fragment or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise _unreadable("a / ? # or @ in user or password must be written as %2F %3F %23 or %40")
    try:
        parameters = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise _unreadable("what follows the ? is not of the form name=value") from None
    database = parts.path.removeprefix("/") or parameters.get("dbname", [""])[-1]
    if not database:
        raise _unreadable("it names no database")
    hosts = parts.netloc.rpartition("@")[2] or parameters.get("host", ["localhost"])[-1]
    return DatabaseAddress(
        f"postgresql://{rest}", f"{','.join(map(_with_port, hosts.split(',')))}/{database}"
    )


def _with_port(host: str) -> str:
    if host.startswith("/"):
        return host
    colon, port = host.rpartition("]")[2].rpartition(":")[1:]
    if not colon:
        return f"{host}:{_PORT}"
    if not port.isdecimal():
        raise _unreadable("a port is no number")
    return host


def _unreadable(why: str) -> StoreError:
    return StoreError(
        f"{SETTING} cannot be read: {why}; write postgresql+asyncpg://user:password@host:port/database"
    )
