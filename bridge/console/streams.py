"""Server-sent events of pages that keep themselves up to date: only what has changed is sent."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp_sse import EventSourceResponse, sse_response

from bridge.console.rendering import render
from bridge.console.sessions import SESSIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web


class Stream(EventSourceResponse):
    """The events of one viewer. It ends when the viewer leaves."""

    async def send_json(self, document: Any, *, event: str) -> None:
        """Send a document for a script of the page."""
        await self.send(orjson.dumps(document).decode(), event=event)


class Fragments:
    """Parts of a page, each sent when it is another than the one before."""

    def __init__(self, request: web.Request, stream: Stream) -> None:
        """Args: who asks, and where to send it."""
        self._request = request
        self._stream = stream
        self._sent: dict[str, str] = {}

    async def send(self, event: str, template: str, /, **context: Any) -> None:
        """Send this part under the name of the event, unless it is the same as the last time."""
        text = render(self._request, template, **context).text or ""
        if self._sent.get(event) != text:
            self._sent[event] = text
            await self._stream.send(text, event=event)


@asynccontextmanager
async def stream_to(request: web.Request) -> AsyncIterator[Stream]:
    """A stream to this viewer. That the viewer leaves, or reads nothing for two minutes, is its ordinary end."""
    with suppress(ConnectionResetError, TimeoutError):
        async with sse_response(request, response_cls=Stream) as stream:
            yield stream


def is_signed_in(request: web.Request) -> bool:
    """Whether the viewer of a stream may still see it: the session or its token may have ended since."""
    return request.config_dict[SESSIONS].visitor(request) is not None
