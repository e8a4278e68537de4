"""Looks at everything every few seconds, once for all viewers, and remembers: trends, and since when what is wrong."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.broker.topology import Names
from bridge.console.checkup import Checkup
from bridge.console.standing import Memory
from bridge.console.trends import Trends, point_of
from bridge.diagnostics.problems import Problem, ProblemKind
from bridge.diagnostics.status import StatusMonitor
from bridge.tasks import background_task
from bridge.telemetry import logs
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from bridge.console.standing import Ended, Standing
    from bridge.diagnostics.status import Status
    from bridge.roles.api import ConsoleParts

log = logs.logger("console")

EVERY_SECONDS: Final = 5.0
"""Between two looks, while somebody looks at a page that shows them."""
UNWATCHED_SECONDS: Final = 15.0
"""The same while nobody does. They go on, so that the first who comes sees since when."""
STALE_SECONDS: Final = 30.0
"""A look that is older is said to be old: one takes 15 s at the most, where nothing answers."""
_DEPENDENCIES: Final = frozenset({ProblemKind.BROKER_DOWN, ProblemKind.DATABASE_DOWN})
_LOOK_SECONDS: Final = 45.0
"""A look that takes longer is given up, and another monitor is made."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has seen."""

    at: float
    """Unix seconds of its end."""
    status: Status | None
    """None: there is none; `failure` says why."""
    failure: str
    standing: tuple[Standing, ...]
    """Everything that is wrong, and since when."""

    @property
    def well(self) -> bool:
        """Whether it has seen everything that it should, and nothing that is wrong."""
        return self.status is not None and not self.standing

    @property
    def dependencies_down(self) -> frozenset[ProblemKind]:
        """Those of RabbitMQ and the database that do not answer."""
        return frozenset(one.problem.kind for one in self.standing) & _DEPENDENCIES


class Monitor:
    """The looks of one process."""

    def __init__(self, parts: ConsoleParts, *, clock: Callable[[], float] = time.time) -> None:
        """Make one that does nothing until `running`.

        Args:
            parts: the settings, and what the API knows of the list's database, which it asks all the time.
            clock: Unix seconds.
        """
        self._parts = parts
        self._clock = clock
        self._memory = Memory()
        self._news = asyncio.Condition()
        self._viewers = 0
        self._closing = False
        self._wanted = asyncio.Event()
        self.archive = Names(parts.settings.rabbitmq.prefix).archive
        """The name of the stream."""
        self.trends = Trends()
        self.checkup = Checkup(parts.settings, clock=clock)
        self.latest: Look | None = None
        """None: the first look is not over yet."""
        self.since = clock()
        """When this process began to look, in Unix seconds."""

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look while the application runs: a cleanup context."""
        async with (
            background_task(self._keep_looking(), name="console.monitor"),
            background_task(self._keep_checking(), name="console.checkup"),
        ):
            yield

    @property
    def ended(self) -> tuple[Ended, ...]:
        """The last problems that are over, the newest first."""
        return self._memory.ended

    @property
    def age(self) -> float:
        """Seconds since the last look, or since this process began to look."""
        return self._clock() - (self.since if self.latest is None else self.latest.at)

    @property
    def is_stale(self) -> bool:
        """Whether the last look is too old to say how things are now."""
        return self.age > STALE_SECONDS

    @property
    def well(self) -> bool:
        """Whether the last look is of now, has seen everything, and nothing that is wrong. Not known is not well."""
        return self.latest is not None and self.latest.well and not self.is_stale

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While somebody looks at a page: from now on there are looks more often."""
        self._viewers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._wanted.clear()

    async def looks(self) -> AsyncIterator[Look | None]:
        """The latest look, and from then on each new one, until the application shuts down.

        Where none comes for some seconds, the last one comes again: it has grown older. None: there was none yet.
        """
        with self.watched():
            while not self._closing:
                known = self.latest
                yield known
                try:
                    async with asyncio.timeout(EVERY_SECONDS), self._news:
                        await self._news.wait_for(lambda: self._closing or self.latest is not known)  # noqa: B023 -- it is waited for at once
                except TimeoutError:
                    continue

    async def close(self, _: web.Application) -> None:
        """End what `looks`: the application shuts down."""
        self._closing = True
        async with self._news:
            self._news.notify_all()

    async def _keep_looking(self) -> None:
        """Whatever ends the looks is shown as a look that failed, and they begin anew."""
        while True:
            async with background_task(self._look_until_it_fails(), name="console.look") as looking:
                await asyncio.wait([looking])
            # aiormq raises CancelledError where a heartbeat is missing, without anybody having cancelled us.
            error = None if looking.cancelled() else looking.exception()
            log.error("a look at the state has failed", action="console.look_failed", exc_info=error)
            await self._add(None, "it was cancelled" if error is None else error_line(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def _look_until_it_fails(self) -> None:
        await self._parts.opened.tried.wait()
        async with StatusMonitor.open(self._parts.settings) as monitor:
            while True:
                async with asyncio.timeout(_LOOK_SECONDS):
                    status = await monitor.read()
                await self._add(status, "")
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            async with asyncio.timeout(UNWATCHED_SECONDS - EVERY_SECONDS):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _add(self, status: Status | None, failure: str) -> None:
        at = self._clock()
        problems = [*self._wrong_list(), *(status.problems if status else ())]
        standing = self._memory.add(at, problems, status)
        if status is not None:
            self.trends.add(point_of(status, self.archive))
        look = Look(at, status, failure, standing)
        if self.latest is not None and self.latest.dependencies_down != look.dependencies_down:
            self.checkup.expire()
        async with self._news:
            self.latest = look
            self._news.notify_all()

    @property
    def list_problem(self) -> str:
        """Why the database of the list does not answer; empty while it does."""
        return self._parts.freshness.problem

    def _wrong_list(self) -> list[Problem]:
        if not self.list_problem:
            return []
        line = f"the database of the suppression list does not answer: {self.list_problem}"
        return [Problem(ProblemKind.DATABASE_DOWN, "", line)]

    async def _keep_checking(self) -> None:
        """Whatever ends the checks is logged, and they begin anew."""
        while True:
            async with background_task(self._check_until_it_fails(), name="console.check") as checking:
                await asyncio.wait([checking])
            error = None if checking.cancelled() else checking.exception()
            log.error("the checks have failed", action="console.checks_failed", exc_info=error)
            await asyncio.sleep(EVERY_SECONDS)

    async def _check_until_it_fails(self) -> None:
        """What `doctor` checks takes more of others' time: only while somebody looks."""
        while True:
            await self._wanted.wait()
            await self.checkup.run_if_due()
            await asyncio.sleep(EVERY_SECONDS)


MONITOR: Final = web.AppKey("console.monitor", Monitor)
