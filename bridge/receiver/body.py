"""Reads the body of a request that took aiohttp's path, within its limits."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from bridge.receiver.answers import RequestRejectedError

MAX_BODY: Final = 64 * 1024
"""Bytes. The provider's largest documented event is below 1 KiB; the rest is for long URLs."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.BaseRequest, *, timeout: float) -> bytes:  # noqa: ASYNC109 -- it becomes an answer
    """The whole body.

    Args:
        request: of which nothing was read yet.
        timeout: seconds.

    Raises:
        RequestRejectedError: it is too large, too late or cut off.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    content, body = request.content, bytearray()
    try:
        async with asyncio.timeout(timeout):
            await _ask_for_body(request)
            while not content.at_eof():
                body += await content.readany()
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        raise RequestRejectedError(408, f"the body did not arrive in {timeout:g} s", closes=True) from None
    except (web.RequestPayloadError, OSError):
        # OSError: the client has disconnected. The answer is only counted.
        raise RequestRejectedError(400, "the body is cut off or badly encoded", closes=True) from None
    return bytes(body)


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Send `100 Continue` to a client that expects it (RFC 9110 10.1.1). Some wait for it for ever."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(_CONTINUE)


def _too_large() -> RequestRejectedError:
    return RequestRejectedError(413, f"the body is larger than {MAX_BODY} bytes", closes=True)
