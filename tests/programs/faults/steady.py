"""An honest client for a time: so many connections, at a rate or as fast as it is answered; and a process's memory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from tests.programs.faults.events import events as endless_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.mail import Mail

AS_FAST_AS_ANSWERED: Final = float("inf")
_GIVE_UP_SECONDS: Final = 10.0


@dataclass(slots=True)
class Answers:
    """Everything that was answered. It is for figures: what became of the events is a history's to say."""

    durability: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Status -> how many."""
    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def steady(
    port: int, path: str, *, connections: int, seconds: float, rate: float = AS_FAST_AS_ANSWERED
) -> Answers:
    """Post events; returns what was answered, and how long each answer took from the request's last byte.

    Raises:
        OSError: a connection was refused or reset.
        TimeoutError: no answer came for a good while.
    """
    answers, events, turns = Answers(), endless_events(), _turns(rate)
    async with asyncio.timeout(seconds + _GIVE_UP_SECONDS), asyncio.TaskGroup() as clients:
        for _ in range(connections):
            clients.create_task(_client(port, path, events, turns, time.monotonic() + seconds, answers))
    return answers


def resident_bytes(pid: int) -> int:
    """The process's memory now, as the kernel counts it (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory")


async def _client(
    port: int,
    path: str,
    events: Iterator[Mail],
    turns: Iterator[float],
    until: float,
    answers: Answers,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (turn := next(turns)) < until:
            if (early := turn - time.monotonic()) > 0:
                await asyncio.sleep(early)
            body = next(events).body
            began = time.monotonic()
            writer.write(
                b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s"
                % (path.encode(), len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = orjson.loads(await reader.readexactly(length))
            answers.seconds.append(time.monotonic() - began)
            _note(answers, head[9:12].decode(), answer)
    finally:
        writer.close()


def _note(answers: Answers, status: str, answer: dict[str, str]) -> None:
    if status == "200":
        answers.durability[answer["durability"]] += 1
    else:
        answers.refused[status] += 1


def _turns(rate: float) -> Iterator[float]:
    """When the next event is due, over all connections together; what was missed is not made up for."""
    due = time.monotonic()
    while True:
        due = max(due + 1 / rate, time.monotonic())
        yield due
