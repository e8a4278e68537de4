"""The end of a run: the load stops, everything is worked off, and what was answered is compared with what became of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.topology import Names
from tests.programs.stack import comparison
from tests.programs.stack.settling import still_wrong
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
_COUNTED_SECONDS: Final = 6.0
"""RabbitMQ counts each queue every 5 s, each at another time: a message may be on its way from one to the next."""


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
    await _until(lambda: _spool(stack))
    await _until(lambda: _waiting(stack))
    took = time.monotonic() - began
    await asyncio.sleep(_COUNTED_SECONDS)
    await _until(lambda: _waiting(stack))
    await _until(lambda: _outbox(stack))
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


async def _until(left: Callable[[], Awaitable[list[str]]]) -> None:
    if wrong := await still_wrong(left, patience=_PATIENCE_SECONDS):
        raise UnwellError("; ".join(wrong))


async def _spool(stack: Stack) -> list[str]:
    return await _counted(stack, "receiver", "bridge_spool_entries")


async def _waiting(stack: Stack) -> list[str]:
    return [
        f"{count} messages are in {name}"
        for name, count in (await stack.queues()).items()
        if count and (name == _NAMES.suppression or name.startswith(_RETRY))
    ]


async def _outbox(stack: Stack) -> list[str]:
    return await _counted(stack, "worker", "bridge_outbox_changes")


async def _counted(stack: Stack, service: str, metric: str) -> list[str]:
    counts = {one.name: await stack.counted(one, metric) for one in await stack.containers(service)}
    return [f"{name}: {metric} is {count:g}" for name, count in counts.items() if count]
