"""The contract with those who consume from RabbitMQ: its files, and a readable page made of them. The API itself uses none of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from bridge.api import html
from bridge.api.contract_page import page_of
from bridge.api.problems import NOT_FOUND, ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH: Final = "/contract"
_ASYNCAPI: Final = "asyncapi.json"
_EXAMPLES: Final = "examples"


def routes(files: Mapping[str, bytes]) -> list[web.RouteDef]:
    """`/contract`, and each file behind it, for everybody: there is nothing secret in them.

    Args:
        files: path -> content, all JSON: `asyncapi.json`, `schemas/…`, `examples/…`.
    """
    page = page_of(orjson.loads(files[_ASYNCAPI]), _examples(files), sorted(files))

    async def for_people(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers=html.HEADERS)

    async def file(request: web.Request) -> web.Response:
        found = files.get(request.match_info["file"])
        if found is None:
            raise ProblemError(NOT_FOUND, f"there is no such file; {PATH} names them all")
        return web.Response(body=found, content_type="application/json", headers=html.HEADERS)

    return [web.get(PATH, for_people), web.get(f"{PATH}/{{file:.+}}", file)]


def _examples(files: Mapping[str, bytes]) -> dict[str, Any]:
    """By their names."""
    paths = {name: PurePosixPath(name) for name in files}
    return {
        path.stem: orjson.loads(files[name]) for name, path in paths.items() if path.parent.name == _EXAMPLES
    }
