"""One run from nothing to nothing: build, start, look, load, break, check the history, take down."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiormq.exceptions import AMQPError

from tests.programs.stack import alerts, ending, promises, steps
from tests.programs.stack.answers import Answers
from tests.programs.stack.arrivals import listening
from tests.programs.stack.engine import Engine, EngineError
from tests.programs.stack.proofs import proofs
from tests.programs.stack.stack import STAYING, Stack
from tests.support.history.history import History

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence

    from tests.programs.stack.ending import Totals
    from tests.programs.stack.promises import Promise
    from tests.programs.stack.proofs import Fault, Proof
    from tests.programs.stack.steps import Row, Step

RATE: Final = 500.0
_RUN_SECONDS: Final = 2400.0
_WARM: Final = 2000
"""Answers `confirmed` before the first step."""

_INTERRUPTED: Final = "interrupted"
BROKEN: Final = (AssertionError, EngineError, AMQPError, OSError, TimeoutError, ExceptionGroup)
"""How a run can fail."""


@dataclass(slots=True)
class Report:
    """What a run has shown, as far as it came."""

    promises: list[Promise] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    totals: Totals | None = None
    failure: str = ""
    """Why it did not come to its end."""
    left_behind: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        kept = not any(promise.broken for promise in self.promises)
        kept = kept and not any(proof.wrong for proof in self.proofs)
        return kept and not self.failure and not self.left_behind and bool(self.totals and self.totals.good)


@dataclass(frozen=True, slots=True)
class Teller:
    """Whom a run tells how it goes."""

    doing: Callable[[str], None]
    looked: Callable[[Promise], None]
    stepped: Callable[[Row], None]
    last_words: Callable[[str], None]
    """The end of the containers' logs, after a failure."""


def run(chosen: Sequence[Step], *, rate: float, promised: bool, tell: Teller) -> Report:
    """The whole of it. Nothing is left behind, whatever happens in it; what is left all the same is reported.

    Raises:
        EngineError: there is no Docker here, or no Compose.
        KeyboardInterrupt: Ctrl-C, and what acts like it; the stack has been taken down.
    """
    asyncio.run(Engine("bridge-stack-test", {}).reach())
    report = Report()
    stack = Stack(rate)
    try:
        looks = (promises.ALL, promises.AFTERWARDS) if promised else ((), ())
        asyncio.run(_bounded(_all(stack, chosen, report, tell, looks)))
    except KeyboardInterrupt:
        report.failure = _INTERRUPTED
        raise
    except BROKEN as error:
        report.failure = _said(error)
    finally:
        with _undisturbed():
            asyncio.run(_end(stack, report, tell))
    return report


async def _bounded(all_of_it: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(_RUN_SECONDS):
        await all_of_it


async def _all(
    stack: Stack,
    chosen: Sequence[Step],
    report: Report,
    tell: Teller,
    looks: tuple[Iterable[str], Iterable[str]],
) -> None:
    """Args: looks: what is promised, before and afterwards."""
    before, afterwards = looks
    tell.doing("making secrets and the image")
    await stack.make_secrets()
    await stack.build()
    tell.doing("starting the stack")
    await stack.up()
    await stack.healthy(*STAYING)
    for what in before:
        tell.doing(what)
        await _look(stack, what, report, tell)
    watch = alerts.Watch()
    faults: list[Fault] = []
    try:
        with History.open(stack.history) as recorder:
            consumer, answers = await listening(stack, recorder), Answers(stack.ledger, recorder)
            async with _beside(consumer.run(), answers.run(), watch.run(stack)):
                tell.doing("starting the load")
                await stack.start_load()
                load_began = time.monotonic()
                await answers.confirmed(more=_WARM)
                for step in chosen:
                    tell.doing(step.name)
                    row, fault = await steps.taken(step, stack, answers, watch)
                    report.rows.append(row)
                    faults.append(fault)
                    tell.stepped(row)
                tell.doing("everything is worked off")
                report.totals = await ending.worked_off(
                    stack, answers, consumer, recorder, load_began=load_began
                )
                tell.doing("the alerts clear")
                await _all_clear(watch, faults)
    finally:
        report.proofs = proofs(faults, watch.seen)
    for what in afterwards:
        tell.doing(what)
        await _look(stack, what, report, tell)


async def _all_clear(watch: alerts.Watch, faults: Sequence[Fault]) -> None:
    """Wait until none of those fires that were raised, or for a good while."""
    for fault in faults:
        await watch.clear(fault.expected, until=fault.ended + alerts.CLEARS_WITHIN_SECONDS)


async def _look(stack: Stack, what: str, report: Report, tell: Teller) -> None:
    report.promises.append(await promises.looked_at(stack, what))
    tell.looked(report.promises[-1])


async def _end(stack: Stack, report: Report, tell: Teller) -> None:
    try:
        if not report.good and report.failure != _INTERRUPTED:
            tell.doing("reading the logs")
            tell.last_words(await stack.last_words())
    except EngineError as error:
        tell.last_words(f"the logs cannot be read: {error}")
    tell.doing("taking it down")
    try:
        report.left_behind = await stack.take_down()
    except EngineError as error:
        what = f"perhaps all of project {stack.engine.project}, and image {stack.image}"
        report.left_behind = [f"{what}: {error}"]


@asynccontextmanager
async def _beside(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Jobs without end; one that fails ends what is done here."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(job) for job in jobs]
        yield
        for task in running:
            task.cancel()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave half of a stack behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _said(error: BaseException) -> str:
    """What was at the bottom of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
