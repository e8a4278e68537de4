"""aiohttp's low-level server around the handler: limits on slow and broken clients, and an orderly end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from bridge.receiver.handler import RefusedError
from bridge.telemetry import logs
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.receiver.handler import Handler
    from bridge.settings import Receiver
    from bridge.telemetry.metrics import Metrics

log = logs.logger("receiver")

_BACKLOG: Final = 2048
_LINGER_SECONDS: Final = 1.0
"""How long the rest of a refused body is read and dropped, so that the client can see the answer."""


class _Connection(RequestHandler):
    """One client. What is not HTTP, and what fails, is answered in the same shape as everything else."""

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._server = manager

    def data_received(self, data: bytes) -> None:
        """As aiohttp, but a request that has begun gets its body: the whole of it, or the news that it is broken."""
        request = self._current_request
        if request is None or request.content.is_eof():
            super().data_received(data)
            return
        # Once it is told to stop, aiohttp throws away what arrives, be it the rest of the request it still waits for.
        stopping = self._close, self._force_close
        self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = stopping
        if self._messages and not request.content.is_eof():
            # Nothing can follow a body that is not whole, but the parser's refusal of what came. aiohttp queues that
            # behind the request, and tells nobody who reads the body.
            request.content.set_exception(web.RequestPayloadError("what came is no part of a body"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return self._server.failed(request, status, exc, message)


class _Server(web.Server):
    def __init__(self, settings: Receiver, handler: Handler, metrics: Metrics) -> None:
        # aiohttp's keep-alive timer runs from the connection's start or its last answer until the next request's
        # head is whole: it bounds slow heads as well.
        self._options = {
            "keepalive_timeout": settings.head_timeout,
            "lingering_time": _LINGER_SECONDS,
            "access_log": None,
        }
        super().__init__(handler)
        self._handler = handler
        self._metrics = metrics

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._options)

    def failed(
        self, request: web.BaseRequest, status: int, error: BaseException | None, message: str | None
    ) -> web.StreamResponse:
        self._metrics.answers.labels(str(status)).inc()
        if status == 400:  # noqa: PLR2004 -- aiohttp's parser refused the bytes
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
