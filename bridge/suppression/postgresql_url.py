"""What `suppression.database_url` says of a PostgreSQL, in the forms that people have it in."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from bridge.suppression.database import SETTING, StoreError

SCHEMES: Final = frozenset({"postgresql+asyncpg", "postgresql", "postgres"})
_PORT: Final = "5432"


class Address(NamedTuple):
    """Where a database is, and how errors speak of it."""

    dsn: str
    """As libpq and asyncpg take it, with the password in it."""
    name: str
    """`host:port/database`, without user and password."""


def of(database_url: str) -> Address:
    """Read `postgresql+asyncpg://user:password@host:port/database`; parameters as those of libpq.

    Raises:
        StoreError: it is none.
    """
    _, _, rest = database_url.partition("://")
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError:
        raise _unreadable("it is not a URL") from None
    # A character of the password that has to be escaped cuts a URL off in its middle, and so a part of the
    # password could pass for a host, or for a database, and be told to everybody.
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
    return Address(f"postgresql://{rest}", f"{','.join(map(_with_port, hosts.split(',')))}/{database}")


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
