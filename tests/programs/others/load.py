"""The provider: posts events at a fixed rate, whatever becomes of those before (an open loop), and writes down each outcome."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import orjson

from tests.programs.others.comparison import CUT_OFF, TOO_LATE, UNREACHABLE
from tests.support.history.mail import Mail, mails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.recorder import Recorder

PATIENCE_SECONDS: Final = 15.0
"""How long it waits for an answer. The provider's own time is not documented; some give up after 3 s, some after 15."""
_LOOK_EVERY_SECONDS: Final = 0.1
_CALM_SECONDS: Final = 3.0
"""So long every event was answered 200: then a bridge has recovered."""
_YOUNG_SECONDS: Final = 1.0
"""An event that waits for its answer longer than that is no sign of calm."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """Runs until it is cancelled; nothing is posted twice."""

    def __init__(self, port: int, path: str, recorder: Recorder, *, rate: float) -> None:
        """Post nothing yet.

        Args:
            port: of the bridge.
            path: of its webhook.
            recorder: of the history.
            rate: events a second.
        """
        self.accepted: set[str] = set()
        """Ids of the events that were answered 200."""
        self._port = port
        self._path = path
        self._recorder = recorder
        self._rate = rate
        self._mails: Iterator[Mail] = mails()
        self._idle: deque[_Connection] = deque()
        self._under_way: dict[int, float] = {}
        """Number of each POST that has no outcome yet -> when it was begun."""
        self._last_bad = 0.0
        self._last_good = 0.0
        self._may_end = asyncio.Event()

    async def run(self) -> None:
        """Post until `end`, and then wait for the outcomes that are still due."""
        async with asyncio.TaskGroup() as posting:
            began, posted = time.monotonic(), 0
            while not self._may_end.is_set():
                if (early := began + posted / self._rate - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                posted += 1
                posting.create_task(self._post(next(self._mails)))
        while self._idle:
            self._idle.pop()[1].close()

    def end(self) -> None:
        self._may_end.set()

    async def calm(self, since: float, *, most: float) -> bool:
        """Wait until every event has been answered 200 for a while; returns False when that has not come in so many seconds.

        Args:
            since: the end of the fault; what was before it does not count.
            most: seconds from then on.
        """
        while time.monotonic() < since + most:
            now = time.monotonic()
            oldest = min(self._under_way.values(), default=now)
            quiet_since = max(since, self._last_bad)
            if (
                now - quiet_since > _CALM_SECONDS
                and now - oldest < _YOUNG_SECONDS
                and self._last_good > quiet_since
            ):
                return True
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        return False

    async def _post(self, mail: Mail) -> None:
        op = self._recorder.post_invoked(mail)
        began = self._under_way[op] = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status, answer = await self._asked(mail.body)
        except TimeoutError:
            self._recorder.post_unanswered(op, TOO_LATE)
        except ConnectionRefusedError:
            self._recorder.post_unanswered(op, UNREACHABLE, sent=False)
        except (OSError, EOFError, ValueError):
            self._recorder.post_unanswered(op, CUT_OFF)
        else:
            self._recorder.post_answered(op, status, answer)
            if status == 200:
                self.accepted.add(answer["id"])
                self._last_good = max(self._last_good, began)
                return
        finally:
            del self._under_way[op]
        self._last_bad = max(self._last_bad, began)

    async def _asked(self, body: bytes) -> tuple[int, dict[str, str]]:
        """Status and answer."""
        reader, writer = await self._connection()
        kept = False
        try:
            head = (
                f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(answered.partition(b"content-length:")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(size)
            status = int(answered[9:12])
            kept = b"connection: close" not in answered
            return status, orjson.loads(content) if status == 200 else {}
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self) -> _Connection:
        """One that is idle and that the bridge has not closed, else a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)
