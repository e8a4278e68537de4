"""Runs cases: load on, fault in, fault out, and the two sides of the ledger compared."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.programs.faults.events import address_of
from tests.programs.faults.load import NO_ANSWER
from tests.programs.faults.scene import set_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.programs.faults.cases import Case
    from tests.programs.faults.scene import Scene

EVENTS: Final = 20_000
RATE: Final = 1_500.0
"""Events a second: high enough that every moment of a fault has events in it, low enough for two cores."""
INJECT_AT: Final = 0.2
_CASE_SECONDS: Final = 300.0
_LIST_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    case: str
    accepted: int
    """Events answered 200."""
    spooled: int
    """How many of them were answered from the spool."""
    arrived: int
    duplicates: int
    lost: int
    """Answered 200, and never seen in the queue."""
    unlisted: int
    """Hard bounces and complaints answered 200 whose address is not on the list."""
    refused: dict[str, int]
    worst: float
    """Seconds that the slowest answer took."""
    p99: float
    recovery: float
    """Seconds from the end of the fault to the next `confirmed` answer."""
    took: float

    @property
    def unanswered(self) -> int:
        """Events whose connection broke, as when the receiver is killed."""
        return self.refused.get(NO_ANSWER, 0)

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.unlisted == 0


async def run(case: Case, *, events: int = EVENTS, rate: float = RATE) -> Row:
    """One case in a scene of its own.

    Raises:
        TimeoutError: it hangs.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bridge-faults-") as directory:
        async with (
            asyncio.timeout(_CASE_SECONDS),
            set_up(Path(directory), case.cast, rate=rate, events=events) as scene,
        ):
            await _under_load(scene, case)
            return await _compared(scene, case, began)


async def run_together(cases: Sequence[Case], *, events: int, rate: float) -> dict[str, tuple[int, int]]:
    """Cases with the same cast, one after the other in one scene, for each so many events.

    Returns:
        Name of a case -> how many events are lost, and how many addresses unlisted, of those accepted during it.

    Raises:
        TimeoutError: it hangs.
    """
    during: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bridge-faults-") as directory:
        async with (
            asyncio.timeout(_CASE_SECONDS),
            set_up(Path(directory), cases[0].cast, rate=rate, events=events * len(cases)) as scene,
        ):
            accepted = scene.load.answers.accepted
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scene.load.run(), name="load")
                for number, case in enumerate(cases):
                    await scene.load.accepted((number + INJECT_AT) / len(cases))
                    await _broken_and_mended(scene, case)
                    during[case.name] = accepted.keys() - set().union(*during.values())
                scene.load.may_end()
            during[cases[-1].name] |= accepted.keys() - set().union(*during.values())
            lost = await scene.ledger.has(accepted.keys())
            unlisted = await _unlisted(scene)
    return {
        name: (len(lost & ids), len(unlisted & {address_of(accepted[one]) for one in ids}))
        for name, ids in during.items()
    }


async def _broken_and_mended(scene: Scene, case: Case) -> None:
    await case.inject(scene)
    scene.load.healed()
    await scene.load.recovered()


async def _under_load(scene: Scene, case: Case) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.load.run(), name="load")
        await scene.load.accepted(INJECT_AT)
        await _broken_and_mended(scene, case)
        scene.load.may_end()


async def _compared(scene: Scene, case: Case, began: float) -> Row:
    answers = scene.load.answers
    lost = await scene.ledger.has(answers.accepted.keys())
    unlisted = await _unlisted(scene)
    return Row(
        case=case.name,
        accepted=len(answers.accepted),
        spooled=answers.durability["spooled"],
        arrived=len(scene.ledger.arrived.keys() & answers.accepted.keys()),
        duplicates=scene.ledger.duplicates,
        lost=len(lost),
        unlisted=len(unlisted),
        refused=dict(answers.refused),
        worst=answers.worst,
        p99=answers.quantile(0.99),
        recovery=scene.load.recovered_after or 0.0,
        took=time.monotonic() - began,
    )


async def _unlisted(scene: Scene) -> set[str]:
    """The addresses that are not on the list after the worker has had its time."""
    unlisted = await scene.missing_from_list()
    deadline = time.monotonic() + _LIST_SECONDS
    while unlisted and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
        unlisted = await scene.missing_from_list()
    return unlisted
