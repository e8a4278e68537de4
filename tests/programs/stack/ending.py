"""The end of a run: the load stops, everything is worked off, and what was answered is compared with what became of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.topology import Names
from tests.programs.stack import comparison
from tests.programs.stack.stack import UnwellError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.stack.answers import Answers
    from tests.programs.stack.arrivals import Ledger
    from tests.programs.stack.comparison import Arrivals, Listed
    from tests.programs.stack.stack import Stack

_NAMES: Final = Names()
_RETRY: Final = f"{_NAMES.suppression}.retry."
_PATIENCE_SECONDS: Final = 180.0
"""A message may be in the delay queue of 30 s; that of 5 min is for what has failed twice."""
_LOOK_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Totals:
    """The bottom line."""

    posted: int
    accepted: int
    """Answers 200, repeats included."""
    spooled: int
    refused: dict[str, int]
    """Other answers: status, or `no answer` -> how many."""
    unsent: int
    """Events that the simulator was too late for, on a machine that is too busy; not among those posted."""
    interrupted: int
    """Events that were on their way when the load was stopped."""
    rate: float
    """Events answered 200 a second, from the first to the last, all that was down included."""
    arrivals: Arrivals
    listed: Listed
    dead: int
    """Messages in the dead letters."""
    seconds: float
    """From the last event until all of it was worked off."""

    @property
    def good(self) -> bool:
        return self.accepted > 0 and not self.arrivals.lost and not self.dead and self.listed.good


async def worked_off(stack: Stack, answers: Answers, ledger: Ledger, *, load_began: float) -> Totals:
    """Stop the load, wait, and compare.

    Args:
        stack: under load.
        answers: one side of the ledger.
        ledger: the other.
        load_began: `time.monotonic` of the first event.

    Raises:
        UnwellError: something is never worked off.
    """
    await stack.stop_load()
    loaded = time.monotonic() - load_began
    answers.read_on()
    began = time.monotonic()
    await ledger.has(answers.accepted.keys())
    await _until("the spool is empty", lambda: _spool(stack))
    await _until("suppression and its delay queues are empty", lambda: _waiting(stack))
    await _until("all changes of the list are published", lambda: _outbox(stack))
    took = time.monotonic() - began
    entries = await _entries_told(stack, ledger)
    return Totals(
        posted=answers.accepted.total() + answers.refused.total() + answers.interrupted,
        accepted=answers.accepted.total(),
        spooled=answers.durability["spooled"],
        refused=dict(answers.refused),
        unsent=answers.unsent,
        interrupted=answers.interrupted,
        rate=answers.accepted.total() / loaded,
        arrivals=comparison.arrivals(answers.accepted, ledger.arrived),
        listed=comparison.listed(ledger.arrived.values(), entries, ledger.added),
        dead=(await stack.queues())[_NAMES.dead],
        seconds=took,
    )


async def _entries_told(stack: Stack, ledger: Ledger) -> list[dict[str, Any]]:
    """The list, once what was published of it has come here, too; or, after a good while, as it is."""
    entries: list[dict[str, Any]] = (await stack.bridge("suppressions", "list"))["items"]
    await ledger.told(len(entries))
    return entries


async def _until(what: str, left: Callable[[], Awaitable[float]]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while waiting := await left():
        if time.monotonic() > deadline:
            raise UnwellError(f"in {_PATIENCE_SECONDS:g} s it has not come to this: {what}; {waiting:g} left")
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _spool(stack: Stack) -> float:
    counts = [await stack.counted(one, "bridge_spool_entries") for one in await stack.containers("receiver")]
    return sum(counts)


async def _waiting(stack: Stack) -> float:
    queues = await stack.queues()
    return sum(
        count for name, count in queues.items() if name == _NAMES.suppression or name.startswith(_RETRY)
    )


async def _outbox(stack: Stack) -> float:
    counts = [await stack.counted(one, "bridge_outbox_changes") for one in await stack.containers("worker")]
    return max(counts)
