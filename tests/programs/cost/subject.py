"""What is measured: a process that runs, and a load that it can be given again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.programs.cost.callgrind import functions_of

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


class Cost(NamedTuple):
    """Of one event."""

    instructions: float
    functions: list[tuple[float, str]]
    """Instructions of each, most first; empty where nobody has asked."""


async def measure(subject: Subject, place: Place, *, with_functions: bool = False) -> Cost:
    """Instructions in user space for each event: of two loads the second alone, so that the start cancels out.

    Args:
        subject: what.
        place: where.
        with_functions: whether those of functions are wanted, too. They are those of C: Python's have no names there.

    Raises:
        CostError: it cannot be measured.
    """
    events = subject.count * subject.per_load
    async with subject.start(place) as (process, load):
        process.hold_timers()
        await load(subject.warm)
        await process.rest()
        await process.collect()
        await process.instrument()
        await load(subject.first)
        await process.rest()
        if with_functions:
            await process.begin_part()
        before = await process.instructions()
        await load(subject.count)
        await process.rest()
        after = await process.instructions()
        functions = functions_of(await process.functions(), events) if with_functions else []
    return Cost((after - before) / events, functions)
