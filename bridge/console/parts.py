"""What every page needs, and where it finds it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bridge.roles.api import ConsoleParts

PARTS: Final = web.AppKey("console.parts", ConsoleParts)


def parts_of(request: web.Request) -> ConsoleParts:
    """Settings, tokens, list and metrics of this process."""
    return request.config_dict[PARTS]
