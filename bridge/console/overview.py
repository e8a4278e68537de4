"""The first page: what happens now, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from bridge.console.rendering import render

if TYPE_CHECKING:
    from bridge.roles.api import ConsoleParts


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [web.get("/", page)]


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    return render(request, "overview.html")
