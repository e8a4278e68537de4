"""Slow and hostile clients against the receiver as a real process: how they end, what they leave, who does not notice.

The measured version, with numbers worth the name: `python -m tests.programs.faults.figures`.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from bridge.receiver.handler import WEBHOOK_PATH
from tests.conftest import TOKEN
from tests.programs.faults.hostile import drip, flood
from tests.programs.faults.steady import resident_bytes, steady

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.programs.faults.hostile import Endings
    from tests.support.processes import Process, Processes

WEBHOOK = WEBHOOK_PATH + TOKEN
HEAD = b"POST %s HTTP/1.1\r\nHost: bridge\r\n" % WEBHOOK.encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = 60_000
PATIENCE_SECONDS = 90
SLOW_DISK = '"spool.stalled"'
"""In the log, where the disk under the spool has taken a second for something: that is not the clients' doing."""
MOST_GROWTH = 30 * 1024**2
"""Bytes: what issue and README promise."""


@asynccontextmanager
async def receiving(
    processes: Processes, overrides: dict[str, Any], **knob: Any
) -> AsyncIterator[tuple[Process, int]]:
    """A receiver with these settings of its section that has reached RabbitMQ, and its port."""
    process = await processes.start(
        "receiver", overrides=overrides | {"receiver": overrides["receiver"] | knob}
    )
    port = (await process.says("receiver.started"))["port"]
    await process.says("broker.connected")
    yield process, port
    assert not [line for line in process.lines if '"level":"error"' in line and SLOW_DISK not in line]


async def durability_now(port: int) -> set[str]:
    """What is answered to good events now."""
    told: set[str] = set()
    while not told:  # on a busy machine the time may be over before the first was sent
        answers = await steady(port, WEBHOOK, connections=2, seconds=0.2, rate=50)
        told = set(answers.durability + answers.refused)
    return told


async def poured(port: int, begun: bytes, more: bytes) -> bytes:
    """Send this, and then that without end, until the server ends it; returns the answer, if it was seen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answering = asyncio.create_task(reader.read(300))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(begun)
            with suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(more)
                    await writer.drain()
            with suppress(ConnectionError):
                return await answering
            return b""
    finally:
        writer.transport.abort()


async def asked_without_end(port: int) -> None:
    """Ask, and read next to nothing of the answers.

    Raises:
        ConnectionError: the server has ended it.
    """
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        while True:
            writer.write(b"GET / HTTP/1.1\r\nHost: bridge\r\n\r\n" * 1000)
            await writer.drain()
    finally:
        writer.transport.abort()


async def test_slow_clients_are_ended_and_an_honest_one_goes_on(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """A byte a second: a head ends with the connection, a body with 408; beside them every event is confirmed."""
    # The time for a head is also what an honest client has between two requests: it may stand still for a while.
    async with receiving(processes, overrides, head_timeout=3.5, body_timeout=2.5) as (_, port):
        slow: Endings | None = None
        # So may the receiver, and then it ends none in the time of the test.
        while slow is None or not (slow.heads and slow.bodies):
            async with asyncio.TaskGroup() as both:
                dripping = both.create_task(drip(port, WEBHOOK, connections=100, seconds=5))
                honest = both.create_task(steady(port, WEBHOOK, connections=4, seconds=5, rate=100))
            slow, answers = dripping.result(), honest.result()
            assert set(answers.durability + answers.refused) == {"confirmed"}
        assert set(slow.heads) == {"closed"}
        assert set(slow.bodies) == {"408"}
        assert slow.longest < PATIENCE_SECONDS


async def test_every_kind_of_bad_request_has_its_answer_under_a_flood(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """Thousands over 64 connections at once: each the documented answer, memory flat, and no error in the log."""
    async with receiving(processes, overrides) as (process, port):
        before = resident_bytes(process.pid)
        tally = await flood(port, WEBHOOK, requests=2_000)
        assert not tally.wrong
        assert set(tally.answered) == {"400", "404", "405", "413"}
        assert resident_bytes(process.pid) - before < MOST_GROWTH
        assert await durability_now(port) == {"confirmed"}


@pytest.mark.parametrize(
    ("begun", "more", "status"),
    [
        (b"", b"hello\r\n\r\n" * 6000, b"400"),
        (HEAD, b"x" * PIECE, b"400"),
        (HEAD, b"x: y\r\n" * 10_000, b"400"),
        (CHUNKED + b"zz\r\n", b"x" * PIECE, b"400"),
        (CHUNKED + b"0\r\n", b"x: y\r\n" * 10_000, b"400"),
        (HEAD + b"Content-Length: 10000000000\r\n\r\n", b"x" * PIECE, b"413"),
        (HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", b"x" * PIECE, b"200"),
    ],
    ids=["not HTTP", "a header", "headers", "broken chunks", "trailers", "a body", "after an upgrade"],
)
async def test_what_follows_a_refusal_is_not_kept(
    processes: Processes, overrides: dict[str, Any], begun: bytes, more: bytes, status: bytes
) -> None:
    """Clients that go on and on: they are answered and cut, and the process holds nothing of what they sent."""
    async with receiving(processes, overrides) as (process, port):
        before = resident_bytes(process.pid)
        for _ in range(3):
            answers = await asyncio.gather(*(poured(port, begun, more) for _ in range(20)))
            assert {answer[9:12] for answer in answers} <= {status, b""}
        assert resident_bytes(process.pid) - before < MOST_GROWTH
        assert await durability_now(port) == {"confirmed"}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel's own timer, on Linux")
async def test_a_client_that_does_not_read_its_answers_is_let_go(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """It asks and asks: it is read no further than it reads, and ends when a body would be too slow."""
    async with receiving(processes, overrides, body_timeout=0.7, head_timeout=60) as (process, port):
        before = resident_bytes(process.pid)
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionError):
                await asked_without_end(port)
        assert resident_bytes(process.pid) - before < MOST_GROWTH
        assert await durability_now(port) == {"confirmed"}
