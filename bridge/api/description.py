"""The API's description: the OpenAPI file, and a readable page made of it."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from bridge.api import html
from bridge.api.page import page_of

_FILE: Final = "openapi.json"


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = orjson.loads(_read())
    return found


def routes() -> list[web.RouteDef]:
    """`/openapi.json` and `/docs`, for everybody: there is nothing secret in them."""
    description = _read()
    page = page_of(orjson.loads(description))

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json", headers=html.HEADERS)

    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers=html.HEADERS)

    return [web.get("/openapi.json", openapi), web.get("/docs", docs)]


def _read() -> bytes:
    return (resources.files("bridge.api") / _FILE).read_bytes()
