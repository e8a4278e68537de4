"""aiohttp's low-level server around the handler: limits on slow and broken clients, and an orderly end."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from bridge.receiver.handler import MAX_BODY, RefusedError
from bridge.telemetry import logs
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from aiohttp import StreamReader

    from bridge.receiver.handler import Handler
    from bridge.settings import Receiver
    from bridge.telemetry.metrics import Metrics

log = logs.logger("receiver")

_BACKLOG: Final = 2048
_BAD_REQUEST: Final = 400
"""What aiohttp answers when its parser refuses the bytes."""
_LINGER_SECONDS: Final = 1.0
"""How long the rest of a refused body is read and dropped, so that the client can see the answer."""


class _Connection(RequestHandler):
    """One client. What is not HTTP, and what fails, is answered in the same shape as everything else."""

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._server = manager
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the newest request."""
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp waits without end for a client that asks and does not read its answers. Linux closes it.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = round(self._server.answer_timeout * 1000)
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds
            )

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # Body and timer hold the connection that holds them. A body that nobody has read may be 1 MiB, and Python
        # looks for such rings seldom.
        self._body = EMPTY_PAYLOAD
        self._keepalive_handle = None

    def data_received(self, data: bytes) -> None:
        """As aiohttp, but a request that has begun gets its body: the whole of it, or the news that it is broken."""
        if self._refused:
            return  # the answer ends the connection; aiohttp's parser would refuse each further piece again
        self._take(data)
        if not self._messages:
            return
        newest, body = self._messages[-1]
        if isinstance(newest, RawRequestMessage):
            self._body = body
            return
        self._refuse(newest.exc)
        if not self._body.is_eof():
            # aiohttp queues the parser's refusal behind the request, and tells nobody who reads its body.
            self._body.set_exception(web.RequestPayloadError("what came is no part of a body"))

    def _take(self, data: bytes) -> None:
        """Once it is told to stop, aiohttp throws away what arrives, be it the body that a handler waits for."""
        stopping = self._close, self._force_close
        request = self._current_request
        if request is not None and not request.content.is_eof():
            self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = stopping

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if exc is not None and status == _BAD_REQUEST:
            self._refuse(exc)
        return self._server.failed(request, status, exc, message)

    def _refuse(self, error: BaseException) -> None:
        """The parser's last word. Its traceback holds what came, and itself: until Python looks for such rings."""
        self._refused = True
        error.__traceback__ = None


class _Server(web.Server):
    def __init__(self, settings: Receiver, handler: Handler, metrics: Metrics) -> None:
        # aiohttp's keep-alive timer runs from the connection's start or its last answer until the next request's
        # head is whole: it bounds slow heads as well.
        self._options = {
            "keepalive_timeout": settings.head_timeout,
            "lingering_time": _LINGER_SECONDS,
            "read_bufsize": MAX_BODY,
            "access_log": None,
        }
        super().__init__(handler)
        self.answer_timeout = settings.body_timeout
        """Seconds for a client to read an answer: as long as it has for a body."""
        self._handler = handler
        self._metrics = metrics

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._options)

    def failed(
        self, request: web.BaseRequest, status: int, error: BaseException | None, message: str | None
    ) -> web.StreamResponse:
        self._metrics.answers.labels(str(status)).inc()
        if status == _BAD_REQUEST:
            refused = RefusedError(400, f"not an HTTP request: {_first_line(message)}", closes=True)
        else:
            log.error(
                "a request failed in an unforeseen way",
                action="receiver.failure",
                method=request.method,
                exc_info=error,
            )
            refused = RefusedError(500, "an unforeseen failure; it has been logged", closes=True)
        return self._handler.refusal(refused)


@asynccontextmanager
async def serve(settings: Receiver, handler: Handler, metrics: Metrics) -> AsyncIterator[int]:
    """Listen until the context ends, then finish what is in flight; yields the port.

    At the end it stops listening, lets running requests end within `drain_timeout`, and closes.

    Raises:
        PortTakenError: the address cannot be bound.
    """
    runner = web.ServerRunner(_Server(settings, handler, metrics), shutdown_timeout=settings.drain_timeout)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise PortTakenError(
                f"the receiver cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "set receiver.port (BRIDGE_RECEIVER__PORT) to a free one"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _first_line(message: str | None) -> str:
    return (message or "bad request").strip().partition("\n")[0].rstrip(":")
