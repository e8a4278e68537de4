"""Drives a receiver as the provider would: at a fixed rate that does not wait for answers."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from bridge.development.emission import post_and_read
from bridge.development.traffic import BodyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.development.emission import WebhookReply
    from bridge.development.traffic import Posting, Traffic

NO_ANSWER: Final = "no answer"

_TIMEOUT_SECONDS: Final = 10.0
"""Timeout for an answer, and for the last ones together."""
_IDLE_SECONDS: Final = 5.0
"""A connection that is idle for longer may be closed by the receiver just when it is used again."""
_MAX_WAITING: Final = 10_000
"""Posts that may wait for a free connection. More are not sent: the rate is too high for the receiver."""
_YIELD_EVERY: Final = 50
"""Posts after which the loop runs other tasks, even if more are due."""


@dataclass(frozen=True, slots=True)
class LoadPace:
    """Rate and duration of the load."""

    rate: float
    """Posts a second."""
    count: int | None = None
    seconds: float | None = None
    """`count` and `seconds` end the load, whichever comes first. None is never."""
    burst: int = 1
    """How many posts become due at once; the rate stays the same."""
    connections: int = 32


class AnswerKind(NamedTuple):
    """A kind of answer."""

    status: str
    """Of HTTP, or `NO_ANSWER`."""
    durability: str
    """`confirmed`, `spooled`, `quarantined`; else the `status` in the body, or why there is no answer."""


@dataclass(slots=True)
class LoadResult:
    """All answers so far."""

    posted: int = 0
    wrong: int = 0
    """Missing answers, and wrong ones: 400 is right for a body that is not JSON, 200 for all others."""
    seconds: dict[AnswerKind, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    """Kind of answer -> seconds of each, from when its post was due."""

    @property
    def answered(self) -> int:
        """How many posts were answered, rightly or wrongly."""
        return sum(len(times) for outcome, times in self.seconds.items() if outcome.status != NO_ANSWER)

    @property
    def is_good(self) -> bool:
        """Whether every post was answered, and rightly."""
        return self.answered > 0 and self.wrong == 0


class LoadDriver:
    """Posts to one URL over many connections."""

    def __init__(
        self,
        url: str,
        traffic: Traffic,
        pace: LoadPace,
        *,
        accepted: Callable[[Posting, WebhookReply], None],
        rejected: Callable[[Posting, AnswerKind], None],
    ) -> None:
        """Create a driver.

        Args:
            url: of the webhook.
            traffic: what to post.
            pace: rate and duration.
            accepted: called for each event that was answered 200.
            rejected: called for each event with another answer, or none.
        """
        self.result = LoadResult()
        self._url = url
        self._traffic = traffic
        self._rate = pace
        self._accepted = accepted
        self._rejected = rejected
        self._gave_up = False
        self._waiting: asyncio.Queue[tuple[float, Posting]] = asyncio.Queue()

    async def run(self) -> None:
        """Post, and wait for the last answers. After a cancellation, `result` has the answers so far."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._rate.connections, keepalive_timeout=_IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
            ) as session,
            asyncio.TaskGroup() as tasks,
        ):
            clients = [
                tasks.create_task(self._client(session), name=f"simulate.client.{number}")
                for number in range(self._rate.connections)
            ]
            await self._post_at_the_rate()
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS + 1):
                    await self._waiting.join()
            except TimeoutError:
                self._give_up()
            for client in clients:
                client.cancel()

    async def _post_at_the_rate(self) -> None:
        pace, began = self._rate, time.perf_counter()
        while pace.count is None or self.result.posted < pace.count:
            due = self.result.posted // pace.burst * pace.burst / pace.rate
            if pace.seconds is not None and due >= pace.seconds:
                return
            early = began + due - time.perf_counter()
            if early > 0 or self.result.posted % _YIELD_EVERY == 0:
                await asyncio.sleep(max(0.0, early))
            self.result.posted += 1
            posting = self._traffic.next()
            if self._waiting.qsize() < _MAX_WAITING:
                self._waiting.put_nowait((began + due, posting))
            else:
                self._count_missing(posting, "not sent: too many wait", began + due)

    def _give_up(self) -> None:
        self._gave_up = True
        while not self._waiting.empty():
            due, posting = self._waiting.get_nowait()
            self._count_missing(posting, "not in time", due)

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while True:
            due, posting = await self._waiting.get()
            try:
                reply = await post_and_read(session, self._url, posting.body)
            except asyncio.CancelledError:
                why = "not in time" if self._gave_up else "interrupted"
                self._count_missing(posting, why, due, wrong=self._gave_up)
                raise
            except (aiohttp.ClientError, OSError) as error:
                self._count_missing(posting, _error_text(error), due)
            else:
                self._count_answer(posting, reply, due)
            finally:
                self._waiting.task_done()

    def _count_answer(self, posting: Posting, reply: WebhookReply, due: float) -> None:
        expected = HTTPStatus.BAD_REQUEST if posting.kind is BodyKind.NOT_JSON else HTTPStatus.OK
        said = reply.document.get("durability") or reply.document.get("status") or ""
        outcome = AnswerKind(str(reply.status), str(said))
        self._count(outcome, due, wrong=reply.status != expected)
        if posting.kind is BodyKind.EVENT:
            if reply.status == HTTPStatus.OK:
                self._accepted(posting, reply)
            else:
                self._rejected(posting, outcome)

    def _count_missing(self, posting: Posting, why: str, due: float, *, wrong: bool = True) -> None:
        """There was no answer."""
        outcome = AnswerKind(NO_ANSWER, why)
        self._count(outcome, due, wrong=wrong)
        if posting.kind is BodyKind.EVENT:
            self._rejected(posting, outcome)

    def _count(self, outcome: AnswerKind, due: float, *, wrong: bool) -> None:
        self.result.seconds[outcome].append(time.perf_counter() - due)
        self.result.wrong += wrong


def quantile(seconds: array[float], share: float) -> float:
    """The time within which this share of the answers arrived. Args: at least one time."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _error_text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"none in {_TIMEOUT_SECONDS:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "cannot connect"
    return "connection lost" if isinstance(error, aiohttp.ClientConnectionError) else "no HTTP"
