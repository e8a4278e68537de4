"""Driving a receiver as the provider would: at a rate that does not wait for its answers."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from bridge.development.emission import ask
from bridge.development.traffic import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.development.emission import Reply
    from bridge.development.traffic import Shot, Traffic

NO_ANSWER: Final = "no answer"

_PATIENCE_SECONDS: Final = 10.0
"""For an answer, and for the last ones together."""
_IDLE_SECONDS: Final = 5.0
"""A connection that is kept for longer may be closed by the receiver just when it is used again."""
_MOST_WAITING: Final = 10_000
"""Posts that wait for a free connection. More are not sent: the rate is above what can be answered."""
_BREATH: Final = 50
"""Posts that may become due before somebody else gets a turn."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, and for how long."""

    rate: float
    """Posts a second."""
    count: int | None = None
    seconds: float | None = None
    """When to end; whichever comes first. None is never."""
    burst: int = 1
    """So many become due at once; the rate stays what it is."""
    connections: int = 32


class Outcome(NamedTuple):
    """A kind of answer."""

    status: str
    """Of HTTP, or `NO_ANSWER`."""
    durability: str
    """`confirmed`, `spooled`, `quarantined`; else what the body says, or why there is no answer."""


@dataclass(slots=True)
class Tally:
    """Everything that was answered so far."""

    posted: int = 0
    wrong: int = 0
    """Answers that are none, or not what the body deserved: 400 for what is no JSON, 200 for all else."""
    seconds: dict[Outcome, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    """Kind of answer -> how long each took, from when its post was due."""

    @property
    def answered(self) -> int:
        return sum(len(times) for outcome, times in self.seconds.items() if outcome.status != NO_ANSWER)

    @property
    def is_good(self) -> bool:
        return self.answered > 0 and self.wrong == 0


class Driver:
    """Posts to one URL over many connections."""

    def __init__(
        self,
        url: str,
        traffic: Traffic,
        pace: Pace,
        *,
        accepted: Callable[[Shot, Reply], None],
        refused: Callable[[Shot, Outcome], None],
    ) -> None:
        """Make a driver.

        Args:
            url: of the webhook.
            traffic: what to post.
            pace: how fast, and for how long.
            accepted: told of each event that was answered 200.
            refused: told of each event that was answered otherwise, or not at all.
        """
        self.tally = Tally()
        self._url = url
        self._traffic = traffic
        self._pace = pace
        self._accepted = accepted
        self._refused = refused
        self._gave_up = False
        self._waiting: asyncio.Queue[tuple[float, Shot]] = asyncio.Queue()

    async def run(self) -> None:
        """Post, and wait for the last answers. When it is cancelled, the tally holds what came until then."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._pace.connections, keepalive_timeout=_IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS),
            ) as session,
            asyncio.TaskGroup() as tasks,
        ):
            clients = [
                tasks.create_task(self._client(session), name=f"simulate.client.{number}")
                for number in range(self._pace.connections)
            ]
            await self._post_at_the_rate()
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS + 1):
                    await self._waiting.join()
            except TimeoutError:
                self._give_up()
            for client in clients:
                client.cancel()

    async def _post_at_the_rate(self) -> None:
        pace, began = self._pace, time.perf_counter()
        while pace.count is None or self.tally.posted < pace.count:
            due = self.tally.posted // pace.burst * pace.burst / pace.rate
            if pace.seconds is not None and due >= pace.seconds:
                return
            early = began + due - time.perf_counter()
            if early > 0 or self.tally.posted % _BREATH == 0:
                await asyncio.sleep(max(0.0, early))
            self.tally.posted += 1
            shot = self._traffic.next()
            if self._waiting.qsize() < _MOST_WAITING:
                self._waiting.put_nowait((began + due, shot))
            else:
                self._miss(shot, "not sent: too many wait", began + due)

    def _give_up(self) -> None:
        self._gave_up = True
        while not self._waiting.empty():
            due, shot = self._waiting.get_nowait()
            self._miss(shot, "not in time", due)

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while True:
            due, shot = await self._waiting.get()
            try:
                reply = await ask(session, self._url, shot.body)
            except asyncio.CancelledError:
                why = "not in time" if self._gave_up else "interrupted"
                self._miss(shot, why, due, wrong=self._gave_up)
                raise
            except (aiohttp.ClientError, OSError) as error:
                self._miss(shot, _why(error), due)
            else:
                self._take(shot, reply, due)
            finally:
                self._waiting.task_done()

    def _take(self, shot: Shot, reply: Reply, due: float) -> None:
        deserved = HTTPStatus.BAD_REQUEST if shot.kind is Kind.NOT_JSON else HTTPStatus.OK
        said = reply.document.get("durability") or reply.document.get("status") or ""
        outcome = Outcome(str(reply.status), str(said))
        self._count(outcome, due, wrong=reply.status != deserved)
        if shot.kind is Kind.EVENT:
            if reply.status == HTTPStatus.OK:
                self._accepted(shot, reply)
            else:
                self._refused(shot, outcome)

    def _miss(self, shot: Shot, why: str, due: float, *, wrong: bool = True) -> None:
        """There was no answer."""
        outcome = Outcome(NO_ANSWER, why)
        self._count(outcome, due, wrong=wrong)
        if shot.kind is Kind.EVENT:
            self._refused(shot, outcome)

    def _count(self, outcome: Outcome, due: float, *, wrong: bool) -> None:
        self.tally.seconds[outcome].append(time.perf_counter() - due)
        self.tally.wrong += wrong


def quantile(seconds: array[float], share: float) -> float:
    """The time within which this share of the answers came; there is at least one."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"none in {_PATIENCE_SECONDS:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "cannot connect"
    return "connection lost" if isinstance(error, aiohttp.ClientConnectionError) else "no HTTP"
