"""The API's description: the OpenAPI file, and a readable page made of it, without scripts and without anybody else's server."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from bridge.api.page import STYLE, page_of

_FILE: Final = "openapi.json"
_STYLE_HASH: Final = b64encode(sha256(STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = orjson.loads(_read())
    return found


def routes() -> list[web.RouteDef]:
    """`/openapi.json` and `/docs`, for everybody: there is nothing secret in them."""
    description = _read()
    page = page_of(orjson.loads(description))

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json", headers=_HEADERS)

    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers=_HEADERS)

    return [web.get("/openapi.json", openapi), web.get("/docs", docs)]


def _read() -> bytes:
    return (resources.files("bridge.api") / _FILE).read_bytes()
