"""Heads that come again are not parsed again, on connections of the receiver without a socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridge.receiver import known_heads, server
from bridge.receiver.answers import accepted
from bridge.receiver.connection import WebhookConnection
from bridge.settings.sections import Receiver
from tests.unit.test_aiohttp_contract import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.receiver.known_heads import KnownHeads

BODY = b'{"event":"\r\n\r\nPOST /"}'


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/valid") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"Host: bridge", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


class Taking:
    """A handler that takes what it admits, and a server whose connections pass it on; what is parsed is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.valid = {"/valid"}
        self.taken: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.parsed: list[bytes] = []
        theirs = WebhookConnection._feed_parser

        def feed(connection: WebhookConnection, data: bytes) -> None:
            self.parsed.append(data)
            theirs(connection, data)

        monkeypatch.setattr(WebhookConnection, "_feed_parser", feed)
        handler: Any = self
        self._server = server._Server(Receiver(), handler)
        self._connections: list[WebhookConnection] = []

    def admits(self, path: str) -> bool:
        return path in self.valid

    def take(self, body: bytes, send_answer: Callable[[Any], None], _: float, headers: Any) -> None:
        self.taken.append(body)
        self.headers.append(dict(headers))
        send_answer(accepted("id", "confirmed"))

    async def __call__(self, request: Any) -> Any:
        raise AssertionError(f"{request} went aiohttp's way")

    async def connected(self) -> WebhookConnection:
        made = self._server()
        assert isinstance(made, WebhookConnection)
        made.connection_made(_WithSocket())
        self._connections.append(made)
        for _ in range(3):
            await asyncio.sleep(0)
        assert made._waiter is not None, "it waits for its first request"
        return made

    async def end(self) -> None:
        for one in self._connections:
            one.connection_lost(None)
        await asyncio.sleep(0)


class _WithSocket(Transport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    family = None

    def setsockopt(self, *_: object) -> None:
        """Nothing is there to be set."""


@pytest.fixture
async def taking(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Taking(monkeypatch)
    yield made
    await made.end()


async def test_a_head_is_parsed_twice_and_then_no_more(taking: Taking) -> None:
    """Whichever connection it comes on; the body is each request's own, and the headers are the same."""
    bodies = [b'{"n":%d}' % number for number in range(6)]
    for body in bodies:
        (await taking.connected()).data_received(post(b"X-A: b", body=body))
    assert taking.taken == bodies
    assert taking.parsed == [post(b"X-A: b", body=body) for body in bodies[:2]]
    assert taking.headers == [{"Host": "bridge", "X-A": "b", "Content-Length": "7"}] * 6


async def test_a_head_that_differs_is_another_one(taking: Taking) -> None:
    """By one byte: a header's value, the length of the body, the path."""
    connection = await taking.connected()
    for _ in range(3):
        connection.data_received(post(b"X-A: b"))
    assert len(taking.parsed) == 2
    others = [post(b"X-A: c"), post(b"X-A: b", body=b"{}"), post(b"X-A:  b"), post(b"x-a: b")]
    for other in others:
        connection.data_received(other)
    assert taking.parsed[2:] == others
    assert taking.headers[-4]["X-A"] == "c"


async def test_a_path_is_asked_for_each_time(taking: Taking) -> None:
    """A token that is no longer valid opens nothing, although its head is known."""
    connection = await taking.connected()
    for _ in range(3):
        connection.data_received(post())
    taking.valid.clear()
    connection.data_received(post())
    assert (len(taking.taken), len(taking.parsed)) == (3, 3)
    connection._messages.clear()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([post()[:9], post()[9:]], id="in two pieces"),
        pytest.param([post()[:-5], post()[-5:]], id="a body in two pieces"),
        pytest.param([post() + post()[:3], post()[3:]], id="one and a half"),
        pytest.param([post() + post()], id="two at once"),
        pytest.param([post()[:-1]], id="not the whole body"),
    ],
)
async def test_what_is_no_whole_request_is_parsed(
    taking: Taking, pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its head is known; and after it, until a whole one has been parsed."""
    connection = await taking.connected()
    for _ in range(3):
        connection.data_received(post())
    del taking.parsed[:]
    queued: list[Any] = []
    monkeypatch.setattr(
        WebhookConnection, "_check_newest_message", lambda self: queued.extend(self._messages)
    )
    waiter = connection._waiter
    for piece in pieces:
        connection.data_received(piece)
        connection._messages.clear()
    assert taking.parsed == pieces
    assert not connection._is_between_requests
    assert queued or len(taking.taken) > 3
    assert waiter is not None
    if not waiter.done():
        waiter.cancel()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"").replace(b"Content-Length: 0\r\n", b"") + b"2\r\n{}\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"\r\n" + post(), id="an empty line before it"),
        pytest.param(post() + b"P", id="a byte of the next"),
        pytest.param(post(b"X-A: " + b"a" * 2048), id="a long head"),
    ],
)  # fmt: skip
async def test_some_heads_are_not_remembered(taking: Taking, data: bytes) -> None:
    """Those whose bytes are not all of the request, or more; and long ones."""
    for _ in range(4):
        (await taking.connected()).data_received(data)
    assert len(taking.taken) == 4
    assert taking.parsed == [data] * 4


async def test_the_second_half_of_a_head_is_no_head(taking: Taking) -> None:
    """Also where it begins as one does: the parser has the first line already."""
    first, second = b"POST /valid HTTP/1.1\r\n", b"POST : a\r\n" + post()[22:]
    for _ in range(3):
        connection = await taking.connected()
        connection.data_received(first)
        connection.data_received(second)
        assert not connection._is_between_requests
    assert len(taking.parsed) == 6


async def test_heads_with_an_id_each_do_not_pile_up(taking: Taking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither they nor those that repeat take more room than there is."""
    monkeypatch.setattr(known_heads, "_MAX_HEADS", 4)
    connection = await taking.connected()
    heads: KnownHeads = taking._server.known_heads
    for number in range(20):
        connection.data_received(post(b"X-Request-ID: %d" % number))
        assert not heads._heads
        assert len(heads._came_once) <= 4
    for number in range(20):
        for _ in range(3):
            connection.data_received(post(b"X-From: %d" % number))
        assert len(heads._heads) <= 4
    assert len(taking.taken) == 80
