"""A client's connection by aiohttp's documented interface alone: only its answers are ours."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from bridge.receiver.answers import to_response
from bridge.telemetry import logs

if TYPE_CHECKING:
    import asyncio

    from bridge.receiver.answers import WebhookAnswer
    from bridge.receiver.handler import Handler
    from bridge.receiver.known_heads import KnownHeads

log = logs.logger("receiver")

BAD_REQUEST: Final = 400
"""aiohttp's answer when its parser rejects the bytes."""
_FAILURE: Final = "an unforeseen failure; it has been logged"


class ServerContext(Protocol):
    """What a connection needs from its server."""

    handler: Handler
    known_heads: KnownHeads
    answer_timeout: float
    """Seconds for a client to read an answer."""


class PlainConnection(web.RequestHandler):
    """One client. Failures, and requests that are not HTTP, are answered in the same format as everything else."""

    def __init__(self, manager: web.Server, served: ServerContext, **options: Any) -> None:
        super().__init__(manager, **options)
        self._served = served

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp waits for ever for a client that sends requests and does not read the answers. With this, Linux closes it.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = round(self._served.answer_timeout * 1000)
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds
            )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return to_response(self._failed(request.method, exc, status, message))

    def _failed(
        self, method: str, error: BaseException | None, status: int = 500, message: str | None = None
    ) -> WebhookAnswer:
        if status == BAD_REQUEST:
            return self._served.handler.failed(BAD_REQUEST, f"not an HTTP request: {_first_line(message)}")
        log.error("a request failed unexpectedly", action="receiver.failure", method=method, exc_info=error)
        return self._served.handler.failed(status, _FAILURE)


def _first_line(message: str | None) -> str:
    return (message or "bad request").strip().partition("\n")[0].rstrip(":")
