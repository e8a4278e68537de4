"""Style and scripts: read and compressed once, under a path that changes with their content, so that browsers keep them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.console.errors import NotFoundError
from bridge.console.sessions import PATH

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

STATIC: Final = "static"
"""The name of the route, which is for everybody: there is nothing secret in these files."""
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HASH_CHARACTERS: Final = 12
_FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    kind: str
    digest: str


class StaticFiles:
    """All files below bridge/console/static."""

    def __init__(self) -> None:
        """Read them."""
        self._files: dict[str, _File] = {}
        self._read(resources.files("bridge.console") / "static", "")

    def url(self, name: str) -> str:
        """Where a page finds a file. Args: its path below static/, such as vendor/htmx.min.js."""
        return f"{PATH}/static/{self._files[name].digest}/{name}"

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/static/{digest}/{name:.+}", self.serve, name=STATIC)]

    async def serve(self, request: web.Request) -> web.Response:
        """One file, in the version for which the page was made."""
        file = self._files.get(request.match_info["name"])
        if file is None or file.digest != request.match_info["digest"]:
            raise NotFoundError(
                "This file belongs to another version of the console. Load the page once more."
            )
        headers = {"Content-Type": file.kind, "Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.compressed, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=file.content, headers=headers)

    def _read(self, folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                self._read(entry, f"{prefix}{entry.name}/")
            elif (kind := _TYPES.get(f".{entry.name.rpartition('.')[2]}")) is not None:
                content = entry.read_bytes()
                digest = sha256(content).hexdigest()[:_HASH_CHARACTERS]
                self._files[f"{prefix}{entry.name}"] = _File(
                    content, gzip.compress(content, mtime=0), kind, digest
                )
