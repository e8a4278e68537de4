"""The load client: posts events at a rate, over many connections, and writes down what each was answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from tests.programs.faults.events import bodies

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS: Final = 64
NO_ANSWER: Final = "no answer"
_GIVE_UP_SECONDS: Final = 5.0
_AFTER_FAILURE_SECONDS: Final = 0.02


@dataclass(slots=True)
class Answers:
    """Everything that was answered."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Event id -> number of the event, of every 200."""
    quarantined: set[int] = field(default_factory=set)
    """Numbers of the events that were answered 200, and not read."""
    durability: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Status, or `no answer` -> how many."""
    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Load:
    """Runs until enough events are accepted and it is told that it may end."""

    def __init__(
        self, ports: Sequence[int], token: str, *, rate: float, events: int, spelt_oddly: bool = False
    ) -> None:
        self.answers = Answers()
        self._ports = ports
        self._path = f"/webhooks/msndr/{token}"
        self._rate = rate
        self._events = events
        self._bodies = bodies(spelt_oddly=spelt_oddly)
        self._posted = 0
        self._began = 0.0
        self._may_end = asyncio.Event()
        self._progress = asyncio.Condition()
        self._healed_at = float("inf")
        self.recovered_after: float | None = None
        """Seconds from `healed` to the first `confirmed` answer to a request that began after it."""

    async def run(self) -> None:
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for number in range(CONNECTIONS):
                clients.create_task(self._client(number))

    async def accepted(self, share: float) -> None:
        """Wait until this share of the events is accepted."""
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.answers.accepted) >= share * self._events)

    def healed(self) -> None:
        """The fault is gone: from now on, time until answers are `confirmed` again."""
        self.recovered_after = None
        self._healed_at = time.monotonic()

    async def recovered(self) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self.recovered_after is not None)

    def may_end(self) -> None:
        self._may_end.set()

    @property
    def _done(self) -> bool:
        return self._may_end.is_set() and len(self.answers.accepted) >= self._events

    async def _client(self, number: int) -> None:
        port = number
        while not self._done:
            try:
                async with asyncio.timeout(_GIVE_UP_SECONDS):
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self._ports[port % len(self._ports)]
                    )
            except OSError:
                port += 1
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)
                continue
            try:
                while not self._done:
                    await self._turn()
                    await self._post(reader, writer)
            except (OSError, EOFError, ValueError):
                self.answers.refused[NO_ANSWER] += 1
                port += 1
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)
            finally:
                writer.close()

    async def _turn(self) -> None:
        """Keep to the rate, over all connections together; what was missed is not made up for."""
        due = self._began + self._posted / self._rate
        self._posted += 1
        behind = time.monotonic() - due
        if behind < 0:
            await asyncio.sleep(-behind)
        else:
            self._began += behind

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, body = next(self._bodies)
        head = f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        began = time.monotonic()
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            writer.write(head.encode() + body)
            head_lines = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head_lines.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = orjson.loads(await reader.readexactly(size))
        self.answers.seconds.append(time.monotonic() - began)
        await self._note(head_lines[9:12].decode(), number, answer, began)

    async def _note(self, status: str, number: int, answer: dict[str, str], began: float) -> None:
        if status != "200":
            self.answers.refused[status] += 1
            return
        if answer["status"] == "quarantined":
            self.answers.quarantined.add(number)
            return
        durability = answer["durability"]
        self.answers.accepted[answer["id"]] = number
        self.answers.durability[durability] += 1
        if durability == "confirmed" and self.recovered_after is None and began > self._healed_at:
            self.recovered_after = time.monotonic() - self._healed_at
        if len(self.answers.accepted) % 100 == 0 or self.recovered_after is not None:
            async with self._progress:
                self._progress.notify_all()
