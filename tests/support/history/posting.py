"""The client that posts: events at a rate, over many connections, each POST and its answer written into the history."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.mail import Mail
    from tests.support.history.recorder import Recorder

CONNECTIONS: Final = 64
NO_ANSWER: Final = "no answer"
_GIVE_UP_SECONDS: Final = 5.0
_AFTER_FAILURE_SECONDS: Final = 0.02


class Poster:
    """Posts until enough events are accepted and it is told that it may end.

    A receiver that is away is left for the next one. What is counted here is only to steer a run by: what became of the events is the
    checker's to say.
    """

    def __init__(
        self,
        ports: Sequence[int],
        path: str,
        mails: Iterator[Mail],
        recorder: Recorder,
        *,
        rate: float,
        events: int = 0,
        connections: int = CONNECTIONS,
    ) -> None:
        """Post nothing yet.

        Args:
            ports: of the receivers on this machine, which may change meanwhile.
            path: of the webhook, with a token that is valid.
            mails: what is posted.
            recorder: of the history.
            rate: POSTs a second, over all connections together.
            events: so many have to be answered 200 before it ends.
            connections: how many there are at the same time.
        """
        self.accepted_mails: dict[str, Mail] = {}
        """Event id -> what was posted, of every 200; of one that has no id, its message's."""
        self.answered: Counter[str] = Counter()
        """Durability of a 200, status of another answer, or `no answer` -> how many."""
        self.recovered_after: float | None = None
        """Seconds from `healed` to the first `confirmed` answer to a request that began after it."""
        self._ports = ports
        self._path = path
        self._mails = mails
        self._recorder = recorder
        self._rate = rate
        self._events = events
        self._connections = connections
        self._posted = 0
        self._began = 0.0
        self._may_end = asyncio.Event()
        self._progress = asyncio.Condition()
        self._healed_at = float("inf")

    async def run(self) -> None:
        """Post; returns when the last connection is done."""
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for number in range(self._connections):
                clients.create_task(self._client(number), name=f"poster.{number}")

    @property
    def accepted_events(self) -> int:
        """How many different events were answered 200."""
        return len(self.accepted_mails)

    async def accepted(self, share: float) -> None:
        """Wait until this share of the events is accepted."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.accepted_events >= share * self._events)

    def healed(self) -> None:
        """The fault is gone: from now on, time until answers are `confirmed` again."""
        self.recovered_after = None
        self._healed_at = time.monotonic()

    async def recovered(self) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self.recovered_after is not None)

    def may_end(self) -> None:
        """It ends as soon as enough events are accepted."""
        self._may_end.set()

    @property
    def _done(self) -> bool:
        return self._may_end.is_set() and self.accepted_events >= self._events

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
                self.answered[NO_ANSWER] += 1
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
        mail = next(self._mails)
        head = f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(mail.body)}\r\n\r\n"
        began = time.monotonic()
        op = self._recorder.post_invoked(mail)
        try:
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                writer.write(head.encode() + mail.body)
                head_lines = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head_lines.partition(b"content-length:")[2].partition(b"\r\n")[0])
                answer = orjson.loads(await reader.readexactly(size))
        except (OSError, EOFError, ValueError) as error:
            self._recorder.post_unanswered(op, type(error).__name__)
            raise
        status = int(head_lines[9:12])
        self._recorder.post_answered(op, status, answer)
        await self._note(mail, status, answer, began)

    async def _note(self, mail: Mail, status: int, answer: dict[str, str], began: float) -> None:
        if status != 200:
            self.answered[str(status)] += 1
            return
        durability = answer.get("durability") or answer.get("status") or ""
        self.accepted_mails[answer.get("id") or f"message {mail.message}"] = mail
        self.answered[durability] += 1
        if durability == "confirmed" and self.recovered_after is None and began > self._healed_at:
            self.recovered_after = time.monotonic() - self._healed_at
        if self.accepted_events % 100 == 0 or self.recovered_after is not None:
            async with self._progress:
                self._progress.notify_all()
