"""Clients that mean no good: bad requests of every kind, and connections that send one byte a second."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOODERS: Final = 64
"""Connections with a bad request on them at once."""
_KEPT_ALIVE: Final = 8
"""Bad requests on one connection, where the answer does not end it."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_GIVE_UP_SECONDS: Final = 20.0
_READ: Final = 64 * 1024
_BYTE_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What is sent on one connection, and the documented answers."""

    name: str
    sent: bytes
    answers: tuple[str, ...]
    """None: the client has gone before there can be one."""

    @property
    def requests(self) -> int:
        return max(1, len(self.answers))


@dataclass(slots=True)
class Tally:
    """What became of a flood."""

    requests: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    """Status -> how many."""
    resets: int = 0
    """Connections that were reset while the client still sent: the answer was not seen."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Kind -> connections on which another answer came than the documented one, or none."""


@dataclass(slots=True)
class Endings:
    """How slow connections ended."""

    heads: Counter[str] = field(default_factory=Counter)
    """Status, or `closed` without an answer -> how many of those that sent a head."""
    bodies: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    """Seconds that the longest one was held."""


def kinds(path: str) -> tuple[Kind, ...]:
    """Every kind of bad request.

    Args:
        path: of the webhook, with a token that is valid.
    """

    def head(method: str, *headers: str, at: str = path) -> bytes:
        return "\r\n".join([f"{method} {at} HTTP/1.1", "Host: bridge", *headers, "", ""]).encode()

    def post(body: bytes, *headers: str, at: str = path) -> bytes:
        return head("POST", f"Content-Length: {len(body)}", *headers, at=at) + body

    large = b" " * 100_000
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    chunked = head("POST", "Transfer-Encoding: chunked")
    again = _KEPT_ALIVE
    return (
        Kind("too large, with its length", post(large), ("413",)),
        Kind("too large, in chunks", chunked + chunk * 4, ("413",)),
        Kind("too large, unpacked", post(gzip.compress(large * 100), "Content-Encoding: gzip"), ("413",)),
        Kind("broken chunks", chunked + b"5\r\nab\r\nzz\r\n" + large, ("400",)),
        Kind("not HTTP", b"\x16\x03\x01\x02\x00" * 2000, ("400",)),
        Kind("wrong token", post(b"{}", at="/webhooks/msndr/not-a-token-of-ours") * again, ("404",) * again),
        Kind("wrong method", head("DELETE") * again, ("405",) * again),
        Kind("not JSON", post(b"message=1&event=opened") * again, ("400",) * again),
        Kind("empty", post(b"") * again, ("400",) * again),
        Kind("cut off by a close", head("POST", "Content-Length: 500") + b"x" * 250, ()),
        Kind("pipelined rubbish", post(b"[") * again + b"rubbish\r\n" * 5000, ("400",)),
        Kind("bad header", head("POST", "Bad Name: 1"), ("400",)),
        Kind("two lengths", head("POST", "Content-Length: 1", "Content-Length: 2"), ("400",)),
        Kind("long header", head("POST", "X-Long: " + "x" * 20_000), ("400",)),
        Kind("many headers", head("POST", *(f"X-{number}: 1" for number in range(500))), ("400",)),
        Kind("head without end", head("POST", "X-Long: " + "x" * 50_000)[:-4], ("400",)),
    )


async def flood(
    port: int, path: str, *, requests: int, sent: Callable[[int], None] = lambda _: None
) -> Tally:
    """Send at least so many bad requests, all kinds in turn.

    Args:
        port: of the receiver.
        path: of the webhook, with a token that is valid.
        requests: how many.
        sent: told how many more have been sent, as they go.

    Raises:
        OSError: a connection was refused.
    """
    tally, endless = Tally(), itertools.cycle(kinds(path))
    async with asyncio.TaskGroup() as flooders:
        for _ in range(FLOODERS):
            flooders.create_task(_flooder(port, endless, requests, tally, sent))
    return tally


async def drip(port: int, path: str, *, connections: int, seconds: float) -> Endings:
    """Keep so many connections open that send a byte a second, half of them a head, half a body; at the end, leave.

    One that is ended begins anew.
    """
    endings, until = Endings(), time.monotonic() + seconds
    head = b"POST %s HTTP/1.1\r\nHost: bridge\r\n" % path.encode()
    begun_body = head + b"Content-Length: 60000\r\n\r\n"
    async with asyncio.TaskGroup() as drippers:
        for number in range(connections):
            begun, counter = (begun_body, endings.bodies) if number % 2 else (head, endings.heads)
            drippers.create_task(_dripper(port, begun, counter, endings, until))
    return endings


async def _flooder(
    port: int, endless: Iterator[Kind], requests: int, tally: Tally, sent: Callable[[int], None]
) -> None:
    while tally.requests < requests:
        kind = next(endless)
        tally.requests += kind.requests
        statuses, reset = await _answers(port, kind)
        tally.answered.update(statuses)
        tally.resets += reset
        if tuple(statuses) != kind.answers[: len(statuses) if reset else None]:
            tally.wrong[kind.name] += 1
        sent(kind.requests)


async def _answers(port: int, kind: Kind) -> tuple[list[str], bool]:
    """The statuses that came, and whether the connection was reset before all of them were there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            writer.write(kind.sent)
            while len(_STATUS.findall(received)) < len(kind.answers):
                piece = await reader.read(_READ)
                if not piece:
                    break
                received += piece
            reset = False
    except ConnectionError:
        reset = True
    except TimeoutError:
        reset = False
    finally:
        writer.transport.abort()
    return [status.decode() for status in _STATUS.findall(received)], reset


async def _dripper(port: int, begun: bytes, counter: Counter[str], endings: Endings, until: float) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        ending = await _one_drip(port, begun, until)
        if ending is not None:
            counter[ending] += 1
            endings.longest = max(endings.longest, time.monotonic() - began)


async def _one_drip(port: int, begun: bytes, until: float) -> str | None:
    """Status, or `closed`; None when the time was over before the server ended it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received, piece = b"", b"?"
    try:
        writer.write(begun)
        while piece:
            if time.monotonic() >= until:
                return None
            writer.write(b"x")
            try:
                async with asyncio.timeout(_BYTE_EVERY_SECONDS):
                    piece = await reader.read(_READ)
            except TimeoutError:
                continue
            received += piece
    except ConnectionError:
        pass  # it was closed while a byte was under way
    finally:
        writer.transport.abort()
    statuses = _STATUS.findall(received)
    return statuses[0].decode() if statuses else "closed"
