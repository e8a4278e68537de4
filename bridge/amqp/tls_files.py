"""The files of this machine that a connection to RabbitMQ needs: certificates and keys that its URL names. Blocking."""

from __future__ import annotations

import os
import ssl
from typing import Final

from yarl import URL

from bridge.certificates import unusable

_FILE_PARAMETERS: Final = ("cafile", "certfile", "keyfile")
"""Parameters of the URL, as aiormq reads them. There is also `capath`, which is a folder."""
_CA_PARAMETERS: Final = ("cafile",)


def problem(url: str) -> str:
    """Why these files make a connection impossible, until somebody mends them; empty if they do not."""
    parsed = URL(url)
    if parsed.scheme != "amqps":
        return ""
    given = {name: path for name, path in parsed.query.items() if path}
    files = [(name, given[name]) for name in _FILE_PARAMETERS if name in given]
    return unusable(files, authorities=_CA_PARAMETERS) or _folder(given) or _pair(given)


def _folder(given: dict[str, str]) -> str:
    path = given.get("capath")
    try:
        os.scandir(path).close() if path else None
    except OSError as error:
        return f"capath: cannot use {path}: {error.strerror}"
    return ""


def _pair(given: dict[str, str]) -> str:
    """Certificate and key have to fit; a key that asks for a password would be waited for on a terminal."""
    if "certfile" not in given:
        return ""
    certificate, key = given["certfile"], given.get("keyfile")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except OSError as error:
        return (
            f"certfile and keyfile: cannot use {certificate} with {key or 'the key in it'}: {error.strerror}"
        )
    return ""
