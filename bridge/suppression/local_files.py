"""The files of this machine that a connection to PostgreSQL needs: certificates and keys."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

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
    for name, path in _files(dsn):
        try:
            with open(path, "rb"):  # noqa: PTH123 -- a path as it is written
                pass
            if name in _OF_AUTHORITIES:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except OSError as unusable:  # ssl's own errors are among them
            return f"{name}: cannot use {path}: {unusable.strerror}"
    return ""


def _files(dsn: str) -> Iterator[tuple[str, str]]:
    given: dict[str, list[str]] = {}
    with suppress(ValueError):
        given = parse_qs(urlsplit(dsn).query)
    for name in _NAMED:
        if path := given.get(name, [""])[-1] or os.environ.get(f"PG{name.upper()}"):
            yield name, path
