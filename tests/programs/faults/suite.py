"""Runs cases: load on, fault in, fault out, and the history of it checked."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.programs.faults.scene import set_up
from tests.support.history.checker import check
from tests.support.history.counting import counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.programs.faults.cases import Case
    from tests.programs.faults.scene import Scene
    from tests.support.history.history import History
    from tests.support.history.violations import Violation

EVENTS: Final = 20_000
RATE: Final = 1_500.0
"""Events a second: high enough that every moment of a fault has events in it, low enough for two cores."""
INJECT_AT: Final = 0.2
_CASE_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    case: str
    accepted: int
    """Events answered 200."""
    spooled: int
    """How many of them were answered from the spool."""
    refused: int
    """Answered otherwise."""
    unanswered: int
    """Events whose connection broke, as when the receiver is killed."""
    arrived: int
    duplicates: int
    lost: int
    """Answered 200, and never seen in the queue."""
    violations: tuple[str, ...]
    """Whatever the history does not explain, what is lost included."""
    worst: float
    """Seconds that the slowest answer took."""
    p99: float
    recovery: float
    """Seconds from the end of the fault to the next `confirmed` answer."""
    took: float

    @property
    def good(self) -> bool:
        return not self.violations


async def run(case: Case, *, events: int = EVENTS, rate: float = RATE, histories: Path | None = None) -> Row:
    """One case in a scene of its own.

    Args:
        case: what is broken.
        events: so many are answered 200, at least.
        rate: POSTs a second.
        histories: the folder in which its history is kept.

    Raises:
        TimeoutError: it hangs.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bridge-faults-") as directory:
        async with (
            asyncio.timeout(_CASE_SECONDS),
            set_up(Path(directory), case.cast, rate=rate, events=events) as scene,
        ):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scene.load.run(), name="load")
                await scene.load.accepted(INJECT_AT)
                await _broken_and_mended(scene, case)
                scene.load.may_end()
            history = await scene.settled()
            recovery = scene.load.recovered_after or 0.0
    if histories is not None:
        history.write(histories / f"{case.name.replace(' ', '-')}.jsonl")
    return _row(case, history, recovery, time.monotonic() - began)


async def run_together(cases: Sequence[Case], *, events: int, rate: float) -> list[Violation]:
    """Cases with the same cast, one after the other in one scene, for each so many events.

    Returns:
        What the history of all of it does not explain.

    Raises:
        TimeoutError: it hangs.
    """
    with tempfile.TemporaryDirectory(prefix="bridge-faults-") as directory:
        async with (
            asyncio.timeout(_CASE_SECONDS),
            set_up(Path(directory), cases[0].cast, rate=rate, events=events * len(cases)) as scene,
        ):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scene.load.run(), name="load")
                for number, case in enumerate(cases):
                    await scene.load.accepted((number + INJECT_AT) / len(cases))
                    await _broken_and_mended(scene, case)
                scene.load.may_end()
            return check(await scene.settled())


async def _broken_and_mended(scene: Scene, case: Case) -> None:
    await case.inject(scene)
    scene.load.healed()
    await scene.load.recovered()


def _row(case: Case, history: History, recovery: float, took: float) -> Row:
    counted, violations = counts(history), check(history)
    return Row(
        case=case.name,
        accepted=counted.accepted,
        spooled=counted.durability.get("spooled", 0),
        refused=counted.otherwise_answered,
        unanswered=counted.unanswered,
        arrived=counted.arrived,
        duplicates=counted.duplicates,
        lost=sum(violation.rule == "lost-event" for violation in violations),
        violations=tuple(map(str, violations)),
        worst=counted.worst,
        p99=counted.quantile(0.99),
        recovery=recovery,
        took=took,
    )
