"""One run: everything that is chosen, one after the other, so that nothing is measured beside anything else."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.programs.bench import (
    building,
    checking,
    entrants,
    fan_out,
    growth,
    longer,
    machine,
    place,
    scaling,
    throughput,
    tracing,
    transfer,
    working,
)
from tests.programs.bench.results import Results
from tests.programs.bench.throughput import FAILURES, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

    from tests.programs.bench.fan_out import FanOutRow
    from tests.programs.bench.growth_curves import Curve
    from tests.programs.bench.longer import AnswerTimes, Memory
    from tests.programs.bench.throughput import Row, Say
    from tests.programs.bench.tracing import TracingRow

    Measured = TypeVar("Measured")

ANSWER_TIMES: Final = "answer times"
MEMORY: Final = "memory"
FAN_OUT: Final = "fan-out"
WORKER: Final = "worker"
SCALING: Final = "scaling"
TRANSFER: Final = "import and export"
CHECKS: Final = "checks"
BUILDING: Final = "messages for tests"
TRACING: Final = "tracing"
ALL: Final = (
    *(contender.name for contender in entrants.ALL),
    ANSWER_TIMES,
    MEMORY,
    FAN_OUT,
    WORKER,
    SCALING,
    TRANSFER,
    CHECKS,
    BUILDING,
    TRACING,
    *(part.name for part in growth.PARTS),
)
"""What can be chosen."""


@dataclass(frozen=True, slots=True)
class Choice:
    names: frozenset[str]
    """Of `ALL`."""
    rounds: int
    seconds: int
    """Of each measurement as fast as it is answered."""
    scratch: Path
    """A new folder on a real disk."""
    full: bool = False
    """Whether growth is measured to the size that takes half an hour."""


def chosen(only: Sequence[str]) -> frozenset[str]:
    """The names that contain one of these; all, where there are none."""
    return frozenset(name for name in ALL if not only or any(part.lower() in name.lower() for part in only))


async def everything(choice: Choice, say: Say) -> Results:
    """Measure what was chosen. What fails is named in the results; the others are measured all the same.

    Raises:
        NodeError: RabbitMQ does not start.
    """
    failed: dict[str, str] = {}
    busy, _, _ = os.getloadavg()
    contenders = [contender for contender in entrants.ALL if contender.name in choice.names]
    skipped = {one.name: why for one in contenders if (why := await one.missing()) is not None}
    for name, why in skipped.items():
        say(f"{name}: skipped: {why}")
    rows: list[Row] = []
    answer_times: AnswerTimes | None = None
    memory: Memory | None = None
    fanned: list[FanOutRow] | None = None
    async with place.set_up(choice.scratch) as there:
        about = await machine.about(there, rounds=choice.rounds, seconds=choice.seconds, before=busy)
        say(about)
        ready = [contender for contender in contenders if contender.name not in skipped]
        rows = await throughput.run(there, ready, rounds=choice.rounds, seconds=choice.seconds, say=say)
        if ANSWER_TIMES in choice.names:
            measuring = longer.answer_times(there, rounds=choice.rounds, say=say)
            answer_times = await _kept(ANSWER_TIMES, measuring, failed, say)
        if MEMORY in choice.names:
            memory = await _kept(MEMORY, longer.memory(there, say=say), failed, say)
        if FAN_OUT in choice.names:
            measuring_fan_out = fan_out.measure(there, rounds=choice.rounds, say=say)
            fanned = await _kept(FAN_OUT, measuring_fan_out, failed, say)
        traced = await _traced(there, choice, failed, say)
        grown = [curve async for curve in _growth(there, choice, failed, say)]
    workers = None
    if WORKER in choice.names:
        workers = await _kept(WORKER, working.measure(rounds=choice.rounds, say=say), failed, say)
    several = None
    if SCALING in choice.names:
        several = await _kept(SCALING, scaling.measure(rounds=choice.rounds, say=say), failed, say)
    transfers = None
    if TRANSFER in choice.names:
        transfers = await _kept(TRANSFER, transfer.measure(rounds=1, say=say), failed, say)
    checks = None
    if CHECKS in choice.names:
        checks = await _kept(CHECKS, checking.measure(rounds=choice.rounds, say=say), failed, say)
    built = None
    if BUILDING in choice.names:
        built = await asyncio.to_thread(building.measure, rounds=choice.rounds, say=say)
    return Results(
        about=about,
        receivers=tuple(rows),
        skipped=skipped,
        answer_times=answer_times,
        memory=memory,
        fan_out=tuple(fanned or ()),
        workers=tuple(workers or ()),
        scaling=tuple(several or ()),
        transfers=tuple(transfers or ()),
        checks=tuple(checks or ()),
        built=tuple(built or ()),
        traced=tuple(traced or ()),
        growth=tuple(grown),
        errors=tuple(f"{name}: {why}" for name, why in failed.items()),
    )


async def _traced(
    there: place.Place, choice: Choice, failed: dict[str, str], say: Say
) -> list[TracingRow] | None:
    if TRACING not in choice.names:
        return None
    return await _kept(TRACING, tracing.measure(there, rounds=choice.rounds, say=say), failed, say)


async def _growth(
    there: place.Place, choice: Choice, failed: dict[str, str], say: Say
) -> AsyncIterator[Curve]:
    for part in growth.PARTS:
        if part.name in choice.names:
            for curve in (
                await _kept(part.name, part.measured(there, full=choice.full, say=say), failed, say) or ()
            ):
                yield curve


async def _kept(
    name: str, measuring: Coroutine[Any, Any, Measured], failed: dict[str, str], say: Callable[[str], None]
) -> Measured | None:
    """What was measured; where that failed, what failed is written down."""
    try:
        return await measuring
    except FAILURES as failure:
        failed[name] = said(failure)
        say(f"{name}: {failed[name]}")
        return None
