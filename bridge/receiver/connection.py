"""A client's connection: aiohttp's, with fixes where it waits or holds memory too long, and a fast path for most requests.

It is loaded only where aiohttp's version is known. `tests/unit/test_aiohttp_contract.py` fails when a new version changes
what it uses; docs/internals.md says what each part replaces.
"""

from __future__ import annotations

import time
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from bridge.receiver.answers import JSON
from bridge.receiver.body import MAX_BODY
from bridge.receiver.plain_connection import BAD_REQUEST, PlainConnection

if TYPE_CHECKING:
    import asyncio

    from aiohttp import StreamReader
    from multidict import CIMultiDictProxy

    from bridge.receiver.answers import WebhookAnswer
    from bridge.receiver.plain_connection import ServerContext


class WebhookConnection(PlainConnection):
    """One client.

    For each request aiohttp creates two tasks, a request and a response, and needs three iterations of the loop. A request
    that arrives whole, in one piece, needs none of it: `_try_fast_path` passes its body to the handler at once, and
    `_answer` writes the answer. All other requests take aiohttp's path.
    """

    def __init__(self, manager: web.Server, served: ServerContext, **options: Any) -> None:
        super().__init__(manager, served, **options)
        self._body: StreamReader = EMPTY_PAYLOAD
        """Body of the newest request."""
        self._has_failed = False
        self._is_between_requests = True
        """Whether the next byte is known to be the first one of a request."""
        self._hidden_waiter: asyncio.Future[None] | None = None
        """aiohttp's future for the next request, hidden from it during the fast path."""

    def connection_lost(self, exc: BaseException | None) -> None:
        self._waiter, self._hidden_waiter = self._waiter or self._hidden_waiter, None
        super().connection_lost(exc)
        # Body and timer form reference cycles with the connection. An unread body may be 1 MiB, and Python collects
        # cycles seldom.
        self._body = EMPTY_PAYLOAD
        self._keepalive_handle = None

    def data_received(self, data: bytes) -> None:
        """As aiohttp, but a request that has started always gets its whole body, or an error."""
        if self._has_failed:
            return  # the answer closes the connection; aiohttp's parser would reject each further piece again
        if self._is_between_requests and self._try_known_head(data):
            return
        self._is_between_requests = False
        waiter, self._waiter = self._waiter, None
        self._feed_parser(data)
        if self._messages:
            if waiter is not None and self._try_fast_path(waiter, data):
                return
            self._check_newest_message()
        self._waiter = waiter
        if self._messages and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 -- aiohttp's
        """As aiohttp, where something was paused. It calls this for each body, and parses nothing once more."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _feed_parser(self, data: bytes) -> None:
        """Feed the parser. While aiohttp is stopping, it drops what arrives, even a body that a handler waits for."""
        close_flags = self._close, self._force_close
        request = self._current_request
        if request is not None and not request.content.is_eof():
            self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = close_flags

    def _check_newest_message(self) -> None:
        newest, body = self._messages[-1]
        if isinstance(newest, RawRequestMessage):
            self._body = body
            return
        self._stop_parsing(newest.exc)
        if not self._body.is_eof():
            # aiohttp queues the parser's error behind the request, and does not inform the reader of its body.
            self._body.set_exception(web.RequestPayloadError("the data is not part of a body"))

    def _try_known_head(self, data: bytes) -> bool:
        """Take the fast path without parsing, if this is one whole request with a head that has taken it before."""
        waiter, known = self._waiter, self._served.known_heads.of(data)
        if (
            known is None
            or waiter is None
            or waiter.done()
            or self.writing_paused
            or not self._served.handler.admits(known.path)
        ):
            return False
        self._waiter = None
        self._take(waiter, data[known.body_at :], known.headers)
        return True

    def _try_fast_path(self, waiter: asyncio.Future[None], data: bytes) -> bool:
        """Take the fast path if the new request, which has ended in this data, allows it; returns whether it does."""
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
        self._is_between_requests = self._served.known_heads.learn(data, request, content)
        self._take(waiter, content.read_nowait(), request.headers)
        return True

    def _take(self, waiter: asyncio.Future[None], body: bytes, headers: CIMultiDictProxy[str]) -> None:
        self._hidden_waiter = waiter
        self._request_in_progress = True
        try:
            self._served.handler.take(body, self._answer, time.perf_counter(), headers)
        except Exception as error:  # noqa: BLE001 -- as aiohttp does around a handler: it is answered and logged
            self._answer(self._failed(hdrs.METH_POST, error))

    def _answer(self, answer: WebhookAnswer) -> None:
        """End of the fast path: write the answer, and let aiohttp wait for the next request."""
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        waiter, self._hidden_waiter = self._hidden_waiter, None
        if self.transport is None or waiter is None:
            return  # the client has disconnected
        self.transport.write(answer_bytes(answer))
        self._waiter = waiter
        if answer.closes:
            self.force_close()
        elif self._close or self._force_close:
            waiter.cancel()
        else:
            self._start_keepalive()
            if self._messages and not waiter.done():
                waiter.set_result(None)

    def _start_keepalive(self) -> None:
        """Start the timeout for the head of the next request."""
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
        if exc is not None and status == BAD_REQUEST:
            self._stop_parsing(exc)
        return super().handle_error(request, status, exc, message)

    def _stop_parsing(self, error: BaseException) -> None:
        """The parser has failed. Drop the traceback: it holds the received data in a reference cycle."""
        self._has_failed = True
        error.__traceback__ = None


def answer_bytes(answer: WebhookAnswer) -> bytes:
    """An answer, encoded as aiohttp would."""
    _, status, body, headers, closes = answer
    return _head(status, headers, len(body), rfc822_formatted_time(), closes) + body


@lru_cache(64)
def _head(status: int, more: tuple[tuple[str, str], ...], length: int, date: str, closes: bool) -> bytes:  # noqa: FBT001 -- a cache is slower with keywords
    """Cached: it is the same for all answers of one kind within a second."""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in more)
        + f"Content-Type: {JSON}\r\nContent-Length: {length}\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n"
        + ("Connection: close\r\n\r\n" if closes else "\r\n")
    ).encode("ascii")
