"""The load: the mix that the project measures with, whole requests, and what was answered wrong is counted."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from tests.programs.bench import mix
from tests.programs.bench.load import Answers, Load
from tests.support.history.mail import MIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATH: Final = "/webhooks/msndr/a-token-for-the-load"
RATE: Final = 200
PATIENCE_SECONDS: Final = 20.0
WITH_WRK: Final = pytest.param(
    True, marks=pytest.mark.skipif(not shutil.which("wrk"), reason="there is no wrk")
)


@dataclass(slots=True)
class Taker:
    """A server that reads whole requests, and what it has read."""

    status: str
    port: int = 0
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST %s HTTP/1.1\r\n" % PATH.encode())
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                self.bodies.append(await reader.readexactly(int(length[1])))
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def taking(status: str = "200 OK") -> AsyncIterator[Taker]:
    taker = Taker(status)
    async with await asyncio.start_server(taker.serve, "127.0.0.1", 0) as server:
        taker.port = server.sockets[0].getsockname()[1]
        yield taker


def test_the_requests_are_the_mix_by_whose_names_the_project_measures() -> None:
    """Of 1,000, each name has its share, and only a click has data: its URL."""
    bodies = [
        orjson.loads((head + b"1234567890" + tail).partition(b"\r\n\r\n")[2])
        for head, tail in mix.requests(PATH)
    ]
    assert Counter(body["event"]["name"] for body in bodies) == dict(MIX)
    assert {body["event"]["name"] for body in bodies if "data" in body["event"]} == {"clicked"}
    assert {body["message"]["id"] for body in bodies} == {1234567890}


@pytest.mark.parametrize("with_wrk", [WITH_WRK, False], ids=["wrk", "own"])
async def test_every_request_is_whole_and_of_another_message(tmp_path: Path, *, with_wrk: bool) -> None:
    """Two runs send no id twice, and their names come in the order of the mix."""
    load = _load(tmp_path, with_wrk=with_wrk)
    async with taking() as taker:
        answers = [await _answered(load, taker) for _ in range(2)]
    events = [orjson.loads(body) for body in taker.bodies]
    ids = [event["message"]["id"] for event in events]
    assert len(set(ids)) == len(ids) >= sum(one.requests for one in answers) > 0
    assert {len(str(one)) for one in ids} == {len(str(mix.FIRST_ID))}
    assert {event["event"]["name"] for event in events} >= {"delivered", "opened"}
    assert [one.wrong for one in answers] == [{}, {}]


@pytest.mark.parametrize("with_wrk", [WITH_WRK, False], ids=["wrk", "own"])
async def test_an_answer_that_is_no_2xx_is_counted(tmp_path: Path, *, with_wrk: bool) -> None:
    """All are answered 503, and all are wrong."""
    load = _load(tmp_path, with_wrk=with_wrk)
    async with taking("503 Service Unavailable") as taker:
        answers = await _answered(load, taker)
    assert sum(answers.wrong.values()) == answers.requests > 0


async def test_a_constant_rate_is_kept_whatever_is_answered(tmp_path: Path) -> None:
    """As many requests as were due are sent, and each has its answer."""
    async with taking() as taker:
        answers = await _load(tmp_path, with_wrk=False).open(taker.port, seconds=1, rate=RATE)
    assert answers.requests == len(taker.bodies) == RATE
    assert answers.p50 <= answers.p99 <= answers.worst


async def _answered(load: Load, taker: Taker) -> Answers:
    """Of a second in which there was an answer at all: this process, which gives it, may stand still for as long as that."""
    while True:
        answers = await load.closed(taker.port, seconds=1, patience=PATIENCE_SECONDS)
        if answers.requests:
            return answers


def _load(directory: Path, *, with_wrk: bool) -> Load:
    load = Load(directory, PATH)
    if not with_wrk:
        load.wrk = None
    return load
