"""The certificate and key files that a connection to PostgreSQL needs."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from bridge.certificates import unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARAMETERS: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Parameters of the URL. libpq's variables for them are the same names in capitals, with PG in front."""
_AUTHORITY_FILES: Final = ("sslrootcert", "sslcrl")


def unusable_file(dsn: str, error: OSError) -> str:
    """Why such a file made a connection fail, which waiting does not repair. Empty if the failure has another cause.

    Args:
        dsn: of the connection.
        error: what connecting raised.
    """
    if isinstance(
        error.filename, str | os.PathLike
    ):  # a file in the home folder, such as .postgresql/postgresql.key
        return (
            f"cannot read {os.fspath(error.filename)}: {error.strerror}; "
            "PostgreSQL's driver looks for it there: set HOME to a folder that can be read"
        )
    return unusable(_files(dsn), authorities=_AUTHORITY_FILES)


def _files(dsn: str) -> Iterator[tuple[str, str]]:
    given: dict[str, list[str]] = {}
    with suppress(ValueError):
        given = parse_qs(urlsplit(dsn).query)
    for name in _PARAMETERS:
        if path := given.get(name, [""])[-1] or os.environ.get(f"PG{name.upper()}"):
            yield name, path
