"""The end of a run: the load stops, everything is worked off, and the history of all of it is checked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.topology import Names
from tests.programs.stack.arrivals import CHANGES_QUEUE, EVENTS_QUEUE
from tests.programs.stack.settling import still_wrong
from tests.programs.stack.stack import UnwellError
from tests.support.history.checker import check
from tests.support.history.counting import counts
from tests.support.history.history import History
from tests.support.history.records import ListEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.stack.answers import Answers
    from tests.programs.stack.stack import Stack
    from tests.support.history.consuming import Consumer
    from tests.support.history.counting import Counts
    from tests.support.history.recorder import Recorder

_NAMES: Final = Names()
_RETRY: Final = f"{_NAMES.suppression}.retry."
_PATIENCE_SECONDS: Final = 180.0
"""A message may be in the delay queue of 30 s; that of 5 min is for what has failed twice."""
_COUNTED_SECONDS: Final = 6.0
"""RabbitMQ counts each queue every 5 s, each at another time: a message may be on its way from one to the next."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The bottom line."""

    counts: Counts
    """What was posted, answered and delivered, by the history."""
    unsent: int
    """Events that the simulator was too late for, on a machine that is too busy; among those posted."""
    interrupted: int
    """Events that were on their way when the load was stopped; among those without an answer."""
    rate: float
    """Events answered 200 a second, from the first to the last, all that was down included."""
    entries: int
    """Of the list."""
    changes: int
    """Of the list, published."""
    dead: int
    """Messages in the dead letters."""
    seconds: float
    """From the last event until all of it was worked off."""
    violations: tuple[str, ...]
    """What the history does not explain."""

    @property
    def good(self) -> bool:
        return self.counts.accepted > 0 and not self.violations


async def worked_off(
    stack: Stack, answers: Answers, consumer: Consumer, recorder: Recorder, *, load_began: float
) -> Totals:
    """Stop the load, wait, and check the history.

    Args:
        stack: under load.
        answers: of the simulator.
        consumer: of the events and the changes.
        recorder: of the history.
        load_began: `time.monotonic` of the first event.

    Raises:
        UnwellError: something is never worked off.
    """
    await stack.stop_load()
    loaded = time.monotonic() - load_began
    answers.read_on()
    began = time.monotonic()
    await consumer.has(answers.accepted.keys())
    await _until(lambda: _spool(stack))
    await _until(lambda: _waiting(stack))
    took = time.monotonic() - began
    await asyncio.sleep(_COUNTED_SECONDS)
    await _until(lambda: _waiting(stack))
    await _until(lambda: _outbox(stack))
    entries = [_entry(one) for one in (await stack.bridge("suppressions", "list"))["items"]]
    await consumer.has_changes(sum(entry.count for entry in entries))
    await _until(lambda: _unread(stack))  # what nobody has read would look like what is lost
    dead = (await stack.queues())[_NAMES.dead]
    recorder.final_list(entries)
    recorder.left("outbox")
    recorder.left("spool")
    recorder.left("dead letters", [f"{dead} of them"] if dead else ())
    recorder.flush()
    history = await asyncio.to_thread(History.read, stack.history)
    counted = counts(history)
    return Totals(
        counts=replace(counted, seconds=[]),
        unsent=answers.unsent,
        interrupted=answers.interrupted,
        rate=counted.answered_200 / loaded,
        entries=len(entries),
        changes=len(consumer.change_ids),
        dead=dead,
        seconds=took,
        violations=tuple(map(str, check(history))),
    )


def _entry(document: dict[str, Any]) -> ListEntry:
    """As `bridge suppressions list --json` prints it."""
    first, last = (
        int(datetime.fromisoformat(document[name]).timestamp())
        for name in ("first_event_at", "last_event_at")
    )
    return ListEntry(
        document["address"], document["reason"], document["count"], first, last, document["message_id"]
    )


async def _until(left: Callable[[], Awaitable[list[str]]]) -> None:
    if wrong := await still_wrong(left, patience=_PATIENCE_SECONDS):
        raise UnwellError("; ".join(wrong))


async def _spool(stack: Stack) -> list[str]:
    return await _counted(stack, "receiver", "bridge_spool_entries")


async def _waiting(stack: Stack) -> list[str]:
    return await _messages(stack, lambda name: name == _NAMES.suppression or name.startswith(_RETRY))


async def _unread(stack: Stack) -> list[str]:
    return await _messages(stack, lambda name: name in {EVENTS_QUEUE, CHANGES_QUEUE})


async def _messages(stack: Stack, chosen: Callable[[str], bool]) -> list[str]:
    return [
        f"{count} messages are in {name}"
        for name, count in (await stack.queues()).items()
        if count and chosen(name)
    ]


async def _outbox(stack: Stack) -> list[str]:
    return await _counted(stack, "worker", "bridge_outbox_changes")


async def _counted(stack: Stack, service: str, metric: str) -> list[str]:
    counts = {one.name: await stack.counted(one, metric) for one in await stack.containers(service)}
    return [f"{name}: {metric} is {count:g}" for name, count in counts.items() if count]
