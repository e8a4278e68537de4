"""What `bridge.receiver.connection` and `.answers` use of aiohttp beyond its documented interface.

These fail when an upgrade changes it. What it does on real sockets is in `tests/integration/test_short_way.py`,
`test_answers.py` and `tests/faults/test_hostile_clients.py`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler

from bridge.receiver.connection import WebhookConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import StreamReader

POST = b"POST /a%20path?query HTTP/1.1\r\nHost: bridge\r\nContent-Length: 2\r\n\r\n{}"
USED = (
    "_buffer_paused",
    "_close",
    "_current_request",
    "_force_close",
    "_handler_waiter",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_loop",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_reading_paused",
    "_request_in_progress",
    "_waiter",
    "transport",
)


class Transport(asyncio.Transport):
    """What a connection writes, and whether it has closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def answers(self) -> int:
        return self.written.count(b"HTTP/1.1 200 OK")


class Theirs:
    """A connection of aiohttp's own, without a socket, that answers 200 when it is let."""

    def __init__(self, **options: Any) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.transport = Transport()
        self.handler: Any = web.Server(self._answer, access_log=None, **options)()
        """Not typed: what is looked at is not meant to be."""
        self.handler.connection_made(self.transport)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        await self.may_answer.wait()
        return web.Response()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Some turns of the loop; there is nothing outside it that would be waited for."""
        for _ in range(50):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to hold")

    async def idle(self) -> asyncio.Future[None]:
        await self.until(lambda: self.handler._waiter)
        waiter: asyncio.Future[None] = self.handler._waiter
        return waiter


@pytest.fixture
async def theirs() -> AsyncIterator[Theirs]:
    made = Theirs()
    yield made
    made.handler.connection_lost(None)
    await asyncio.sleep(0)


def test_every_name_that_we_use_is_there() -> None:
    """What a connection keeps under these names is aiohttp's, and what ours adds is not."""
    kept = {name for one in RequestHandler.__mro__ for name in getattr(one, "__slots__", ())}
    assert set(USED) <= kept
    for method in ("_process_keepalive", "data_received", "force_close", "connection_lost", "handle_error"):
        assert inspect.isfunction(getattr(RequestHandler, method))
    assert isinstance(inspect.getattr_static(RequestHandler, "writing_paused"), property)
    ours = {"_served", "_body", "_refused", "_admitted", "_resting"}
    assert not ours & (kept | set(vars(RequestHandler)))


def test_what_we_replace_is_called_in_the_same_way() -> None:
    """The arguments of the two methods that are handed on, and of the constructor that a server calls."""
    for name in ("data_received", "resume_reading", "connection_made", "connection_lost", "handle_error"):
        theirs, ours = (inspect.signature(getattr(one, name)) for one in (RequestHandler, WebhookConnection))
        assert list(ours.parameters) == list(theirs.parameters)
    assert list(inspect.signature(RequestHandler).parameters)[:2] == ["manager", "loop"]


async def test_a_request_is_queued_with_its_body_and_wakes_the_one_who_waits(theirs: Theirs) -> None:
    """`_waiter` is a future while it is idle; `_messages` holds the head and the stream of the body."""
    waiter = await theirs.idle()
    assert not waiter.done()
    theirs.handler.data_received(POST)
    assert waiter.done()
    ((head, content),) = theirs.handler._messages
    assert isinstance(head, RawRequestMessage)
    assert (head.method, head.version, head.path) == ("POST", HttpVersion11, "/a%20path?query")
    assert (head.should_close, head.upgrade, head.chunked, head.compression) == (False, False, False, None)
    assert head.raw_headers == ((b"Host", b"bridge"), (b"Content-Length", b"2"))
    assert (content.is_eof(), content.total_bytes, content.exception()) == (True, 2, None)
    assert content.read_nowait() == b"{}"
    await theirs.until(lambda: theirs.transport.answers == 1)


async def test_a_request_without_a_body_has_the_empty_one(theirs: Theirs) -> None:
    """It can be asked like any other."""
    theirs.handler.data_received(b"POST / HTTP/1.1\r\nHost: bridge\r\n\r\n")
    ((_, content),) = theirs.handler._messages
    assert content is EMPTY_PAYLOAD
    assert (content.is_eof(), content.total_bytes, content.exception()) == (True, 0, None)
    assert content.read_nowait() == b""


async def test_what_is_no_http_is_queued_with_its_error(theirs: Theirs) -> None:
    """In place of the head, with the parser's error as `exc`."""
    theirs.handler.data_received(b"hello\r\n\r\n")
    ((error, content),) = theirs.handler._messages
    assert not isinstance(error, RawRequestMessage)
    assert isinstance(error.exc, Exception)
    assert content is EMPTY_PAYLOAD
    theirs.handler._messages.clear()


@pytest.mark.parametrize(
    ("request_head", "field"),
    [
        (b"POST / HTTP/1.1\r\nConnection: close\r\n", "should_close"),
        (b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", "upgrade"),
    ],
)
async def test_a_head_says_what_the_short_way_does_not_do(
    theirs: Theirs, request_head: bytes, field: str
) -> None:
    """That the connection ends after it, or becomes another one."""
    theirs.handler.data_received(request_head + b"Host: bridge\r\nContent-Length: 2\r\n\r\n{}")
    head, _ = theirs.handler._messages[0]
    assert getattr(head, field) is True
    theirs.handler._messages.clear()


async def test_a_body_that_is_packed_badly_has_its_error(theirs: Theirs) -> None:
    """The stream of the body knows it as soon as it has come."""
    theirs.handler.data_received(POST.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))
    content: StreamReader = theirs.handler._messages[0][1]
    assert isinstance(content.exception(), Exception)
    theirs.handler._messages.clear()


async def test_while_its_waiter_is_hidden_it_sleeps(theirs: Theirs) -> None:
    """What comes stays in the queue, the keep-alive timer leaves it alone; with the waiter back it goes on."""
    theirs.handler._waiter, waiter = None, await theirs.idle()
    theirs.handler.data_received(POST)
    theirs.handler._next_keepalive_close_time = 0.0
    theirs.handler._process_keepalive()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiter.done()
    assert not theirs.transport.closed
    assert len(theirs.handler._messages) == 1
    assert theirs.handler._keepalive_handle is None, "the timer has to be set again"
    theirs.handler._waiter = waiter
    waiter.set_result(None)
    await theirs.until(lambda: theirs.transport.answers == 1)
    await theirs.idle()


async def test_an_idle_connection_is_closed_by_its_timer(theirs: Theirs) -> None:
    """Not before `_next_keepalive_close_time`: if that has moved, the timer is set again."""
    await theirs.idle()
    assert theirs.handler._keepalive_timeout == 3630
    theirs.handler._process_keepalive()
    assert not theirs.transport.closed
    assert theirs.handler._keepalive_handle.when() == theirs.handler._next_keepalive_close_time
    theirs.handler._next_keepalive_close_time = 0.0
    theirs.handler._process_keepalive()
    assert theirs.transport.closed


@pytest.mark.parametrize("told", [True, False])
async def test_the_parser_counts_what_was_taken(theirs: Theirs, told: bool) -> None:  # noqa: FBT001 -- a parameter
    """Without `message_consumed` it takes what has been answered for queued, and stops in the middle of a packet."""
    theirs.handler._waiter, waiter = None, await theirs.idle()
    for _ in range(MAX_MSG_QUEUE_SIZE):
        theirs.handler.data_received(POST)
        assert len(theirs.handler._messages) == 1
        theirs.handler._messages.clear()
        if told:
            theirs.handler._parser.message_consumed()
    theirs.handler.data_received(POST + POST)
    assert len(theirs.handler._messages) == (2 if told else 1)
    theirs.handler._messages.clear()
    theirs.handler._waiter = waiter


@pytest.mark.parametrize("flag", ["_close", "_force_close"])
async def test_once_it_is_to_stop_it_throws_away_what_comes(theirs: Theirs, flag: str) -> None:
    """The body, too, of a request that runs; with the flag out of its sight it takes it."""
    await theirs.idle()
    theirs.handler.data_received(POST[:-1])
    await theirs.until(lambda: theirs.handler._current_request)
    setattr(theirs.handler, flag, True)
    theirs.handler.data_received(POST[-1:])
    assert not theirs.handler._current_request.content.is_eof()
    setattr(theirs.handler, flag, False)
    theirs.handler.data_received(POST[-1:])
    assert theirs.handler._current_request.content.is_eof()
    await theirs.until(lambda: theirs.transport.answers == 1)
    assert theirs.handler._current_request is None


async def test_a_stop_waits_while_a_request_is_in_progress(theirs: Theirs) -> None:
    """`_request_in_progress` makes it wait for `_handler_waiter`; then it waits for its own task, and closes."""
    theirs.handler._waiter, waiter = None, await theirs.idle()
    assert not theirs.handler._handler_waiter
    theirs.handler._request_in_progress = True
    theirs.handler.close()
    stopping = asyncio.create_task(theirs.handler.shutdown(20))
    await theirs.until(lambda: theirs.handler._handler_waiter)
    assert theirs.handler._close
    assert theirs.handler._force_close
    assert not waiter.done(), "hidden from close as well"
    assert not theirs.transport.closed
    theirs.handler._handler_waiter.set_result(None)
    waiter.cancel()
    async with asyncio.timeout(90):
        await stopping
    assert theirs.transport.closed


async def test_a_stop_closes_an_idle_connection_by_its_waiter(theirs: Theirs) -> None:
    """`close` cancels `_waiter`, and with it the task that waits."""
    waiter = await theirs.idle()
    theirs.handler.close()
    await theirs.until(theirs.handler._task_handler.done)
    assert waiter.cancelled()


async def test_force_close_lets_go_of_the_transport(theirs: Theirs) -> None:
    """By that an answer that comes too late knows that nobody is there."""
    waiter = await theirs.idle()
    theirs.handler.force_close()
    assert theirs.handler.transport is None
    assert theirs.handler._force_close
    assert theirs.transport.closed
    await theirs.until(waiter.cancelled)


async def test_a_connection_that_is_lost_ends_its_task_by_its_waiter() -> None:
    """And lets go of parser and transport."""
    theirs = Theirs()
    waiter = await theirs.idle()
    task = theirs.handler._task_handler
    theirs.handler.connection_lost(None)
    await theirs.until(task.done)
    assert waiter.cancelled()
    assert (theirs.handler.transport, theirs.handler._parser) == (None, None)


async def test_a_head_is_written_as_we_write_it(theirs: Theirs) -> None:
    """Names, order and spelling; the date as aiohttp's own helper has it."""
    theirs.handler.data_received(POST)
    await theirs.until(lambda: theirs.transport.answers == 1)
    *_, date, server, empty, body = theirs.transport.written.split(b"\r\n")
    assert date.startswith(b"Date: ")
    assert len(date) == len("Date: " + rfc822_formatted_time())
    assert (server, empty, body) == (b"Server: " + SERVER_SOFTWARE.encode(), b"", b"")
