"""What is done to the stack under load: workers scaled, services restarted, services killed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.programs.stack.alerts import CLEARS_WITHIN_SECONDS, FIRES_WITHIN_SECONDS, Expected
from tests.programs.stack.proofs import Fault
from tests.programs.stack.settling import still_wrong
from tests.programs.stack.stack import UnwellError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.stack.alerts import Watch
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
    alerts: tuple[Expected, ...] = ()
    """What it must raise; nothing where it is no fault."""
    recover: Act | None = None
    """What is done once they fire, where the fault lasts until then."""
    seen_first: bool = False
    """The next step waits until they fire, where it takes away what Prometheus would see of this one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    step: str
    answers: Stretch
    seconds: float
    """From the beginning of the step until all that it touched is healthy."""
    note: str


async def taken(step: Step, stack: Stack, answers: Answers, watch: Watch) -> tuple[Row, Fault]:
    """Do it under load, and wait until the stack is itself again.

    Raises:
        UnwellError: a container does not become healthy.
        SilentError: the receiver does not confirm any more.
        EngineError: Docker refuses.
    """
    # What still fires for an earlier fault would say nothing of this one.
    await watch.clear(step.alerts, until=time.monotonic() + CLEARS_WITHIN_SECONDS)
    answers.begin()
    began = time.monotonic()
    note = await step.act(stack)
    if step.recover is not None:
        await watch.fire(step.alerts, until=began + FIRES_WITHIN_SECONDS)
        note = await step.recover(stack)
    ended = time.monotonic()
    if step.seen_first:
        await watch.fire(step.alerts, until=began + FIRES_WITHIN_SECONDS)
    await answers.confirmed(more=_ENOUGH)
    return Row(step.name, answers.stretch(), ended - began, note), Fault(step.name, step.alerts, began, ended)


def _restart(service: str, alert: Expected) -> Step:
    async def act(stack: Stack) -> str:
        await stack.restart(service)
        await stack.healthy(service)
        return ""

    return Step(f"restart {service}", act, (alert,))


def _kill(service: str, alert: Expected) -> Step:
    """SIGKILL, and a start at once."""

    async def act(stack: Stack) -> str:
        [container] = await stack.containers(service)
        await stack.kill(container)
        await stack.start(container)
        await stack.healthy(service)
        return ""

    return Step(f"kill -9 {service}", act, (alert,))


def _leave_dead(*services: str, alerts: tuple[Expected, ...]) -> Step:
    """SIGKILL, and a start once somebody was called."""

    async def act(stack: Stack) -> str:
        await asyncio.gather(*(stack.kill(one) for one in await stack.containers(*services)))
        return ""

    async def recover(stack: Stack) -> str:
        await asyncio.gather(*(stack.start(one) for one in await stack.containers(*services)))
        await stack.healthy(*services)
        return ""

    return Step(f"kill -9 {' and '.join(services)}, until somebody is called", act, alerts, recover)


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
    await stack.start(victim)
    await stack.healthy("worker")
    return ""


def _alert(name: str, **labels: str) -> Expected:
    return Expected(name, tuple(labels.items()))


def _restarted(job: str) -> Expected:
    return _alert("BridgeRoleRestarted", job=job)


# The alerts say for two minutes that something was restarted, so the same is not broken twice in a row.
ALL: Final = (
    Step(f"scale workers 1 to {WORKERS}", _scale_up),
    Step(f"{WORKERS} workers share", _share),
    # Scaling down takes the killed one away, perhaps before Prometheus has seen it run again.
    Step(f"kill -9 one of {WORKERS} workers", _kill_one_worker, (_restarted("worker"),), seen_first=True),
    Step(f"scale workers {WORKERS} to 1", _scale_down),
    _restart("receiver", _restarted("receiver")),
    _restart("api", _restarted("api")),
    _restart("console", _restarted("console")),
    _restart("provider", _alert("BridgeDependencyFailed", dependency="provider")),
    _restart("postgres", _alert("BridgeDependencyFailed", dependency="database")),
    _restart("rabbitmq", _alert("BridgeBrokerReconnected", job="worker")),
    _leave_dead(
        "postgres",
        alerts=(_alert("BridgeDatabaseAway", job="worker"), _alert("BridgeDatabaseAway", job="api")),
    ),
    _restart("worker", _restarted("worker")),
    _kill("receiver", _restarted("receiver")),
    _kill("api", _restarted("api")),
    _leave_dead(
        "rabbitmq",
        alerts=(
            _alert("BridgeBrokerAway", job="receiver"),
            _alert("BridgeBrokerAway", job="worker"),
            _alert("BridgeRabbitMQAway"),
        ),
    ),
    _leave_dead(
        "receiver",
        "worker",
        "api",
        "console",
        alerts=(
            _alert("BridgeReceiverAway"),
            _alert("BridgeWorkerAway"),
            _alert("BridgeNoWorker"),
            _alert("BridgeApiAway"),
            _alert("BridgeConsoleAway"),
        ),
    ),
)
