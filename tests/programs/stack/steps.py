"""What is done to the stack under load: workers scaled, services restarted, services killed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.programs.stack.settling import still_wrong
from tests.programs.stack.stack import UnwellError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.stack.answers import Answers, Stretch
    from tests.programs.stack.stack import Stack

    Act = Callable[[Stack], Awaitable[str]]
    """Done when all that it touched is healthy again; what it returns is worth a note."""

WORKERS: Final = 4
_HANDLED: Final = "bridge_events_handled_total"
_PATIENCE_SECONDS: Final = 60.0
"""Until each worker has begun to consume."""
_SHARING_SECONDS: Final = 15.0
_FAIR: Final = 0.5
"""Of an even share, what each worker has at least."""
_ENOUGH: Final = 500
"""Answers `confirmed` that are waited for after each step, before the next one."""


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    act: Act


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    step: str
    answers: Stretch
    seconds: float
    """From the beginning of the step until all that it touched is healthy."""
    note: str


async def taken(step: Step, stack: Stack, answers: Answers) -> Row:
    """Do it under load, and wait until the stack is itself again.

    Raises:
        UnwellError: a container does not become healthy.
        SilentError: the receiver does not confirm any more.
        EngineError: Docker refuses.
    """
    answers.begin()
    began = time.monotonic()
    note = await step.act(stack)
    seconds = time.monotonic() - began
    await answers.confirmed(more=_ENOUGH)
    return Row(step.name, answers.stretch(), seconds, note)


def _restart(service: str) -> Step:
    async def act(stack: Stack) -> str:
        await stack.restart(service)
        await stack.healthy(service)
        return ""

    return Step(f"restart {service}", act)


def _kill(service: str) -> Step:
    async def act(stack: Stack) -> str:
        [container] = await stack.containers(service)
        await stack.kill(container)
        await stack.healthy(service)
        return ""

    return Step(f"kill -9 {service}", act)


async def _scale_up(stack: Stack) -> str:
    return await _scale(stack, WORKERS)


async def _scale_down(stack: Stack) -> str:
    return await _scale(stack, 1)


async def _scale(stack: Stack, number: int) -> str:
    await stack.scale_workers(number)
    await stack.healthy("worker")
    there = len(await stack.containers("worker"))
    if there != number:
        raise UnwellError(f"scaled to {number} workers, and there are {there}")
    return ""


async def _share(stack: Stack) -> str:
    """How the events spread over the workers, which do not know of each other, once all of them are at work."""
    if idle := await still_wrong(lambda: _idle(stack), patience=_PATIENCE_SECONDS):
        raise UnwellError("; ".join(idle))
    before = await _handled(stack)
    await asyncio.sleep(_SHARING_SECONDS)
    after = await _handled(stack)
    handled = [after[name] - before[name] for name in sorted(after)]
    shares = [count / max(1.0, sum(handled)) for count in handled]
    said = f"handled: {', '.join(f'{share:.0%}' for share in shares)}"
    if min(shares) < _FAIR / len(shares):
        raise UnwellError(f"{len(shares)} workers do not share evenly: {said}")
    return said


async def _idle(stack: Stack) -> list[str]:
    """A worker is healthy as soon as it is alive, and it consumes a little later."""
    return [f"{name} has handled no event" for name, count in (await _handled(stack)).items() if not count]


async def _handled(stack: Stack) -> dict[str, float]:
    """Worker -> events that it is done with since its start."""
    workers = await stack.containers("worker")
    counts = await asyncio.gather(*(stack.counted(worker, _HANDLED) for worker in workers))
    return {worker.name: count for worker, count in zip(workers, counts, strict=True)}


async def _kill_one_worker(stack: Stack) -> str:
    victim = (await stack.containers("worker"))[1]
    await stack.kill(victim)
    await stack.healthy("worker")
    return ""


ALL: Final = (
    Step(f"scale workers 1 to {WORKERS}", _scale_up),
    Step(f"{WORKERS} workers share", _share),
    Step(f"kill -9 one of {WORKERS} workers", _kill_one_worker),
    Step(f"scale workers {WORKERS} to 1", _scale_down),
    _restart("worker"),
    _restart("receiver"),
    _restart("api"),
    _restart("provider"),
    _restart("postgres"),
    _restart("rabbitmq"),
    _kill("receiver"),
    _kill("api"),
    _kill("postgres"),
    _kill("rabbitmq"),
)
