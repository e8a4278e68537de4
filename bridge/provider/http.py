"""Sends one HTTP request to the provider, and reads a limited part of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from bridge.text import collapse

MAX_BODY: Final = 8 * 1024**2
"""Bytes. A message comes with its text and HTML. A longer body is cut off."""
MAX_ERROR_BODY: Final = 2 * 1024
"""Bytes of an error's body, whose shape is not documented."""
MAX_EXCERPT: Final = 200
"""Characters of the provider's text that an error message of ours quotes."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to the API of the provider."""

    method: str
    path: str
    """Below the base URL, already percent-encoded."""
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer of the API of the provider."""

    call: ApiRequest
    status: int
    body: bytes
    retry_after: str | None
    """The `Retry-After` header, unparsed."""

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return _succeeded(self.status)


async def send(session: aiohttp.ClientSession, base_url: str, call: ApiRequest, token: str) -> ApiResponse:
    """Send one request.

    Args:
        session: its timeout covers request and answer.
        base_url: without a slash at its end.
        call: the request.
        token: the provider's API token.

    Raises:
        TimeoutError, OSError, aiohttp.ClientError: there was no complete answer.
    """
    async with session.request(
        call.method,
        URL(base_url + call.path, encoded=True),
        data=call.body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        # A redirect could send the token or the webhook's URL to another server.
        allow_redirects=False,
        middlewares=(_without_automatic_retry,),
    ) as response:
        limit = MAX_BODY if _succeeded(response.status) else MAX_ERROR_BODY
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= limit:
                break
        return ApiResponse(call, response.status, bytes(body[:limit]), response.headers.get("Retry-After"))


async def _without_automatic_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Prevents aiohttp's automatic retry of GET and DELETE after a lost connection.

    aiohttp retries after these two exceptions. Our own retries are counted, and wait for the rate limit.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as lost:
        raise aiohttp.ClientConnectionError(str(lost)) from lost


def host_of(url: str) -> str:
    """Scheme, host and port of a base URL, for error messages."""
    parsed = URL(url)
    return f"{parsed.scheme}://{parsed.host_port_subcomponent}"


def excerpt(text: str, token: str) -> str:
    """A short printable line of the provider's text, without our token, which the text may quote."""
    line = collapse(text.replace(token, "***"))
    return "".join(character for character in line if character.isprintable())[:MAX_EXCERPT]


def _succeeded(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
