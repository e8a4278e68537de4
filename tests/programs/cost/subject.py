"""What is measured: a process that runs, and a load that it can be given again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.programs.cost.callgrind import Counted
    from tests.programs.cost.place import Place


class Measured(NamedTuple):
    """A process that is ready."""

    process: Counted
    load: Callable[[int], Awaitable[None]]
    """Give it so many events; returns when it has done with them."""


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    start: Callable[[Place], AbstractAsyncContextManager[Measured]]
    warm: int
    """Events before anything is counted."""
    first: int
    """Events of the first load that is counted, which is subtracted."""
    count: int
    """Events of the second."""
    unit: str = "event"
    per_load: int = 1
    """How many of these an "event" of the load is."""


async def measure(subject: Subject, place: Place) -> float:
    """Instructions in user space for each event: of two loads the second alone, so that the start cancels out.

    Raises:
        CostError: it cannot be measured.
    """
    async with subject.start(place) as (process, load):
        process.hold_timers()
        await load(subject.warm)
        await process.rest()
        await process.collect()
        await process.instrument()
        await load(subject.first)
        await process.rest()
        before = await process.instructions()
        await load(subject.count)
        await process.rest()
        after = await process.instructions()
    return (after - before) / (subject.count * subject.per_load)
