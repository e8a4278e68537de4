"""Libraries of versions that nobody knows, in which all is gone that the fast path takes of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSIONS: Final = {"aiohttp": "3.99.0", "aio_pika": "10.99.1", "aiormq": "7.99.2", "pamqp": "4.0.1"}
"""As their metadata will say."""

_GONE: Final = """
import aio_pika, aiohttp.web, aiormq

from aiohttp import helpers, http, streams

del helpers.rfc822_formatted_time, http.SERVER_SOFTWARE, http.RawRequestMessage, streams.EMPTY_PAYLOAD
del aiormq.TransportFactory, aiormq.connection.TransportFactory
"""
"""What `sitecustomize` does, which Python imports before anything else."""


def environment(folder: Path) -> Mapping[str, str]:
    """Variables under which a process finds such libraries. Args: an empty folder, which it must keep."""
    for name, version in VERSIONS.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "sitecustomize.py").write_text(_GONE)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
