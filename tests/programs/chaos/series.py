"""Runs one seed after the other on the same servers, and shrinks the schedule of one that fails."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.programs.chaos import results, run, schedule, servers
from tests.programs.chaos.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.programs.chaos.run import Outcome
    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.servers import Servers


class Series:
    """Several seeds."""

    def __init__(
        self,
        *,
        seconds: float,
        nodes: int,
        rate: float,
        keep: Path,
        into: Path | None,
        tries: int,
        say: Callable[[str], None],
    ) -> None:
        """Run nothing yet.

        Args:
            seconds: of load for each seed.
            nodes: of RabbitMQ.
            rate: events a second.
            keep: for what a run that fails leaves.
            into: the file of results.
            tries: how often a shorter schedule is run before it counts as one that does not fail; 0: none is shrunk.
            say: prints a line.
        """
        self._seconds = seconds
        self._nodes = nodes
        self._rate = rate
        self._keep = keep
        self._into = into
        self._tries = tries
        self._say = say

    async def run(self, seeds: Sequence[int], *, jobs: int = 1) -> list[Outcome]:
        """What came of each, in the order in which they ended. Args: jobs: so many at the same time."""
        waiting = list(reversed(seeds))
        outcomes: list[Outcome] = []

        async def job() -> None:
            async with _Lent(self._nodes) as lent:
                while waiting:
                    seed = waiting.pop()
                    outcomes.append(outcome := await self._one(lent, seed))
                    self._say(f"chaos: {len(outcomes)} of {len(seeds)}: {results.line(outcome)}")

        async with asyncio.TaskGroup() as tasks:
            for number in range(min(jobs, len(seeds))):
                tasks.create_task(job(), name=f"job {number}")
        return outcomes

    async def _one(self, lent: _Lent, seed: int) -> Outcome:
        faults = schedule.draw(seed, seconds=self._seconds, nodes=self._nodes)
        self._say(
            f"chaos: seed {seed}, {self._nodes} of RabbitMQ, {self._seconds:g} s:\n{schedule.shown(faults)}"
        )
        outcome = await self._ran(lent, seed, faults, keep=self._keep)
        if self._into is not None:
            with self._into.open("a") as file:
                file.write(json.dumps(outcome.as_json()) + "\n")
        if outcome.violations and self._tries:
            await self._shrunk(lent, seed, faults)
        return outcome

    async def _ran(self, lent: _Lent, seed: int, faults: Sequence[Fault], *, keep: Path | None) -> Outcome:
        """On the servers that are there, if they are well; else on new ones."""
        there = await lent.servers()
        outcome = await run.run(there, faults, seed=seed, seconds=self._seconds, rate=self._rate, keep=keep)
        if not outcome.good or there.is_worn:
            await lent.give_back()
        return outcome

    async def _shrunk(self, lent: _Lent, seed: int, faults: Sequence[Fault]) -> None:
        async def fails(candidate: Sequence[Fault]) -> bool:
            for _ in range(self._tries):
                outcome = await self._ran(lent, seed, candidate, keep=None)
                if outcome.violations:
                    break
            found = f"{len(outcome.violations)} violations" if outcome.violations else "does not fail"
            self._say(
                f"chaos: seed {seed}, shrinking, {len(candidate)} faults: {found}\n{schedule.shown(candidate)}"
            )
            return bool(outcome.violations)

        left = await shrink(faults, fails)
        self._say(
            f"chaos: seed {seed} still fails with {len(left)} of {len(faults)} faults:\n{schedule.shown(left)}"
        )


class _Lent:
    """The servers of one job: started when they are first needed, and new ones after a run that has failed."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._stack = AsyncExitStack()
        self._running: Servers | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.give_back()

    async def servers(self) -> Servers:
        if self._running is None:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-chaos-")))
            self._running = await self._stack.enter_async_context(
                servers.running(folder, nodes=self._nodes, seed=time.time_ns())
            )
        return self._running

    async def give_back(self) -> None:
        """End them."""
        self._running = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()
