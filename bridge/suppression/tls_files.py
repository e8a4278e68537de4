"""The files of this machine that a connection to PostgreSQL needs: certificates and keys."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from bridge.certificates import unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMED: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Parameters of the URL; libpq's variables for them are these in capitals with PG in front."""
_OF_AUTHORITIES: Final = ("sslrootcert", "sslcrl")


def problem(dsn: str, error: OSError) -> str:
    """Why a connection failed if it was for such a file: waiting does not mend it. Empty if it was not.

    Args:
        dsn: of the connection.
        error: what connecting raised.
    """
    if isinstance(
        error.filename, str | os.PathLike
    ):  # looked for in the home, such as .postgresql/postgresql.key
        return (
            f"cannot read {os.fspath(error.filename)}: {error.strerror}; "
            "PostgreSQL's driver looks there: set HOME to a folder that may be entered"
        )
    return unusable(_files(dsn), authorities=_OF_AUTHORITIES)


def _files(dsn: str) -> Iterator[tuple[str, str]]:
    given: dict[str, list[str]] = {}
    with suppress(ValueError):
        given = parse_qs(urlsplit(dsn).query)
    for name in _NAMED:
        if path := given.get(name, [""])[-1] or os.environ.get(f"PG{name.upper()}"):
            yield name, path
