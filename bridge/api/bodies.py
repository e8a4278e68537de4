"""Reads the JSON body of a request, within limits of size and time; and answers with JSON."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from bridge.api.problems import (
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    INVALID_JSON,
    UNSUPPORTED_MEDIA_TYPE,
    ProblemError,
    invalid_field,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY: Final = "body"
"""How errors name the body as a whole."""
NO_STORE: Final = MappingProxyType({"Cache-Control": "no-store"})

_PLAIN: Final = "identity"

MAX_BYTES: Final = web.AppKey("max_bytes", int)
TIMEOUT: Final = web.AppKey("timeout", float)
"""The limits of a body: bytes, and seconds."""


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        ProblemError: it is something else, too large or too slow.
    """
    if request.content_type != "application/json":
        raise ProblemError(
            UNSUPPORTED_MEDIA_TYPE,
            f"the content type is '{request.content_type}'; send `Content-Type: application/json`",
        )
    if (encoding := request.headers.get("Content-Encoding", _PLAIN)) != _PLAIN:
        raise ProblemError(
            UNSUPPORTED_MEDIA_TYPE, f"the content encoding is '{encoding}'; send the body as it is"
        )
    body = await _read(request)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError(INVALID_JSON, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise invalid_field(BODY, "must be an object")
    return found


async def _read(request: web.Request) -> bytes:
    limit, seconds = request.app[MAX_BYTES], request.app[TIMEOUT]
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise ProblemError(
            BODY_TOO_SLOW,
            f"the body did not come within {seconds:g} s (api.body_timeout)",
            headers={"Connection": "close"},
        ) from None
    except web.RequestPayloadError:
        raise ProblemError(
            INVALID_JSON, "the body does not come as HTTP has it", headers={"Connection": "close"}
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None


def too_large(limit: int) -> ProblemError:
    """The problem of a body with more bytes than this."""
    return ProblemError(
        BODY_TOO_LARGE,
        f"the body has more than {limit} bytes (api.max_body_bytes); send several requests",
        headers={"Connection": "close"},
    )


def answer(
    document: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] = NO_STORE
) -> web.Response:
    """An answer with this document as JSON."""
    return web.Response(
        status=status, body=orjson.dumps(document), content_type="application/json", headers=headers
    )
