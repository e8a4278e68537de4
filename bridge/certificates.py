"""Certificates and keys in files of this machine: whether they can be used. Blocking."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


def unusable(files: Iterable[tuple[str, str]], *, authorities: Container[str]) -> str:
    """Which of these files cannot be used, and why; empty if all can.

    Args:
        files: what each is called in the settings, and its path.
        authorities: names of those that are certificates of authorities.
    """
    for name, path in files:
        try:
            with open(path, "rb"):  # noqa: PTH123 -- a path as it is written
                pass
            if name in authorities:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except OSError as error:  # ssl's own errors are among them
            return f"{name}: cannot use {path}: {error.strerror}"
    return ""
