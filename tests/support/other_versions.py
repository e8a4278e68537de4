"""Unknown versions of the libraries, from which everything is removed that the fast path uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSIONS: Final = {"aiohttp": "3.99.0", "aio_pika": "10.99.1", "aiormq": "7.99.2", "pamqp": "4.0.1"}
"""According to their metadata."""

_REMOVAL: Final = """
import aio_pika, aiohttp.web, aiormq

from aiohttp import helpers, http, streams

del helpers.rfc822_formatted_time, http.SERVER_SOFTWARE, http.RawRequestMessage, streams.EMPTY_PAYLOAD
del aiormq.TransportFactory, aiormq.connection.TransportFactory
"""
"""The module `sitecustomize`, which Python imports before anything else."""


def environment(folder: Path) -> Mapping[str, str]:
    """Environment variables for a process that is to use such libraries. Args: an empty folder, which must stay."""
    for name, version in VERSIONS.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "sitecustomize.py").write_text(_REMOVAL)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
