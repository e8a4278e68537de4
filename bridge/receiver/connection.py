"""One client's connection: aiohttp's, mended where it waits or keeps too long, with a short way for the usual request."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from bridge.receiver.answers import response
from bridge.receiver.handler import MAX_BODY
from bridge.telemetry import logs

if TYPE_CHECKING:
    import asyncio

    from aiohttp import StreamReader

    from bridge.receiver.answers import Answer
    from bridge.receiver.handler import Handler

log = logs.logger("receiver")

_BAD_REQUEST: Final = 400
"""What aiohttp answers when its parser refuses the bytes."""
_FAILURE: Final = "an unforeseen failure; it has been logged"


class Served(Protocol):
    """What a connection needs of its server."""

    handler: Handler
    answer_timeout: float
    """Seconds for a client to read an answer."""


class Connection(RequestHandler):
    """One client. What is not HTTP, and what fails, is answered in the same shape as everything else.

    aiohttp spends two tasks, a request, a response and three turns of the loop on each request. One that has come
    whole, in one piece, needs none of it: `_take_short` hands its body to the handler at once, and `_answer` writes
    when the handler says so. All else goes aiohttp's way.
    """

    def __init__(self, manager: web.Server, served: Served, **options: Any) -> None:
        super().__init__(manager, **options)
        self._served = served
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the newest request."""
        self._refused = False
        self._resting: asyncio.Future[None] | None = None
        """aiohttp's own wait for a request, out of its sight while one goes the short way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp waits without end for a client that asks and does not read its answers. Linux closes it.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = round(self._served.answer_timeout * 1000)
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds
            )

    def connection_lost(self, exc: BaseException | None) -> None:
        self._waiter, self._resting = self._waiter or self._resting, None
        super().connection_lost(exc)
        # Body and timer hold the connection that holds them. A body that nobody has read may be 1 MiB, and Python
        # looks for such rings seldom.
        self._body = EMPTY_PAYLOAD
        self._keepalive_handle = None

    def data_received(self, data: bytes) -> None:
        """As aiohttp, but a request that has begun gets its body: the whole of it, or the news that it is broken."""
        if self._refused:
            return  # the answer ends the connection; aiohttp's parser would refuse each further piece again
        waiter, self._waiter = self._waiter, None
        self._take(data)
        if self._messages:
            if waiter is not None and self._take_short(waiter):
                return
            self._look_at_newest()
        self._waiter = waiter
        if self._messages and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _take(self, data: bytes) -> None:
        """Once it is told to stop, aiohttp throws away what arrives, be it the body that a handler waits for."""
        stopping = self._close, self._force_close
        request = self._current_request
        if request is not None and not request.content.is_eof():
            self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = stopping

    def _look_at_newest(self) -> None:
        newest, body = self._messages[-1]
        if isinstance(newest, RawRequestMessage):
            self._body = body
            return
        self._refuse(newest.exc)
        if not self._body.is_eof():
            # aiohttp queues the parser's refusal behind the request, and tells nobody who reads its body.
            self._body.set_exception(web.RequestPayloadError("what came is no part of a body"))

    def _take_short(self, waiter: asyncio.Future[None]) -> bool:
        """Whether the request that has just come goes the short way."""
        request, content = self._messages[0]
        if (
            len(self._messages) > 1
            or waiter.done()
            or not isinstance(request, RawRequestMessage)
            or request.method != hdrs.METH_POST
            or request.version != HttpVersion11
            or request.should_close
            or request.upgrade
            or not content.is_eof()
            or content.total_bytes > MAX_BODY
            or content.exception() is not None
            or self.writing_paused
            or not self._served.handler.admits(request.path)
        ):
            return False
        self._messages.clear()
        if self._parser is not None:
            self._parser.message_consumed()
        self._resting = waiter
        self._request_in_progress = True
        try:
            self._served.handler.take(content.read_nowait(), self._answer, time.perf_counter())
        except Exception as error:  # noqa: BLE001 -- as aiohttp does around a handler: the client is told, and the log
            self._answer(self._failed(hdrs.METH_POST, error))
        return True

    def _answer(self, answer: Answer) -> None:
        """The end of the short way: write, and let aiohttp wait again for a request."""
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        waiter, self._resting = self._resting, None
        if self.transport is None or waiter is None:
            return  # the client has gone
        self.transport.write(answer.on_the_wire())
        self._waiter = waiter
        if answer.closes:
            self.force_close()
        elif self._close or self._force_close:
            waiter.cancel()
        else:
            self._rest()
            if self._messages and not waiter.done():
                waiter.set_result(None)

    def _rest(self) -> None:
        """The time in which the head of the next request must be there begins."""
        self._next_keepalive_close_time = closing = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closing, self._process_keepalive)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if exc is not None and status == _BAD_REQUEST:
            self._refuse(exc)
        return response(self._failed(request.method, exc, status, message))

    def _failed(
        self, method: str, error: BaseException | None, status: int = 500, message: str | None = None
    ) -> Answer:
        if status == _BAD_REQUEST:
            return self._served.handler.failed(_BAD_REQUEST, f"not an HTTP request: {_first_line(message)}")
        log.error(
            "a request failed in an unforeseen way", action="receiver.failure", method=method, exc_info=error
        )
        return self._served.handler.failed(status, _FAILURE)

    def _refuse(self, error: BaseException) -> None:
        """The parser's last word. Its traceback holds what came, and itself: until Python looks for such rings."""
        self._refused = True
        error.__traceback__ = None


def _first_line(message: str | None) -> str:
    return (message or "bad request").strip().partition("\n")[0].rstrip(":")
