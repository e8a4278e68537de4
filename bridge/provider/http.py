"""One HTTP request to the provider, and as much of the answer as we are willing to read."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

LONGEST_ANSWER: Final = 8 * 1024**2
"""Bytes. A message comes with its text and HTML; what is longer is cut off."""
LONGEST_ERROR: Final = 2 * 1024
"""Bytes of an error's body. The provider documents no shape for it."""
LONGEST_EXCERPT: Final = 200
"""Characters of somebody else's text in a message of ours."""


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    """Below the base URL, already percent-encoded."""
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    call: Call
    status: int
    body: bytes
    retry_after: str | None
    """The header, as it came."""

    @property
    def succeeded(self) -> bool:
        return _succeeded(self.status)


async def exchange(session: aiohttp.ClientSession, address: str, call: Call, token: str) -> Answer:
    """Ask once.

    Args:
        session: its timeout bounds the whole exchange.
        address: the base URL, without a slash at its end.
        call: what to ask.
        token: the provider's API token.

    Raises:
        TimeoutError, OSError, aiohttp.ClientError: there was no complete answer.
    """
    async with session.request(
        call.method,
        URL(address + call.path, encoded=True),
        data=call.body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        # A redirect could take the token, or the webhook's URL, to somewhere else.
        allow_redirects=False,
        middlewares=(_unrepeated,),
    ) as response:
        limit = LONGEST_ANSWER if _succeeded(response.status) else LONGEST_ERROR
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= limit:
                break
        return Answer(call, response.status, bytes(body[:limit]), response.headers.get("Retry-After"))


async def _unrepeated(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET or DELETE on its own when a connection is lost.

    It does so for these two exceptions; a repeat of ours is counted, and waits for its turn.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as lost:
        raise aiohttp.ClientConnectionError(str(lost)) from lost


def host_of(address: str) -> str:
    """Scheme, host and port of a base URL, for messages."""
    url = URL(address)
    return f"{url.scheme}://{url.host_port_subcomponent}"


def excerpt(text: str, token: str) -> str:
    """One short printable line of what somebody else wrote, who may have written our token back to us."""
    line = " ".join(text.replace(token, "***").split())
    return "".join(character for character in line if character.isprintable())[:LONGEST_EXCERPT]


def _succeeded(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
