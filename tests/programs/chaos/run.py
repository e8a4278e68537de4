"""One seed: its stack, the load, the schedule; then all is well again, everything is worked off, and the checker decides."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from sqlalchemy.exc import SQLAlchemyError

from bridge.tasks import background_task
from tests.programs.chaos import schedule as schedules
from tests.programs.chaos.archive import replace_unreadable
from tests.programs.chaos.clients import using
from tests.programs.chaos.faults_broker import losing
from tests.programs.chaos.injecting import AWAY, SkippedError
from tests.programs.chaos.injectors import injected
from tests.programs.chaos.schedule import ALL
from tests.programs.chaos.stack import standing
from tests.support.history.checker import check
from tests.support.history.history import History

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.programs.chaos.clients import Clients
    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.servers import Servers
    from tests.programs.chaos.stack import Stack
    from tests.support.history.violations import Violation

_SETTLED_SECONDS: Final = 150.0
"""After so long without any progress no more is waited for: a lost binding is noticed after 30 s."""
_STILL_SECONDS: Final = 45.0
"""After so long without a change, and nothing under way, no more is waited for."""
_UNDER_WAY: Final = frozenset({"left-in-spool", "left-in-queue", "unpublished-change"})
_LOOK_EVERY_SECONDS: Final = 0.5
_SLOW_SECONDS: Final = 30.0
"""A run that took longer to settle is kept, too: it says what the bridge waits for."""
_UNREADABLE: Final = (*AWAY, SQLAlchemyError, aiohttp.ClientError)


@dataclass(slots=True)
class Outcome:
    """What came of a seed. All of it goes into the file of results."""

    seed: int
    nodes: int
    seconds: float
    """How long the load ran, as the schedule was drawn for."""
    faults: Sequence[Fault]
    answered: dict[str, int] = field(default_factory=dict)
    """Durability of a 200, status of another answer, or `no answer` -> how many."""
    delivered: int = 0
    """Events that came out of the queue for everything, repeats included."""
    changes: int = 0
    """Changes of the list that were heard, each once."""
    entries: int = 0
    """On the list at the end."""
    skipped: list[str] = field(default_factory=list)
    """Faults that could not be done, and why."""
    fell: list[str] = field(default_factory=list)
    """Roles that ended by themselves, and were started again."""
    by_hand: list[str] = field(default_factory=list)
    """What an operator had to do before all was well again, as docs/operate.md says."""
    violations: list[str] = field(default_factory=list)
    broken: str = ""
    """Why the run says nothing: the harness has failed."""
    took: float = 0.0
    settled: float = 0.0
    """Seconds from when all was well again until everything was worked off."""
    waited_for: str = ""
    """What was missing at the last look before that."""

    @property
    def accepted(self) -> int:
        """Answers 200."""
        return sum(
            count for what, count in self.answered.items() if not what.isdigit() and what != "no answer"
        )

    @property
    def good(self) -> bool:
        return not self.violations and not self.broken

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "nodes": self.nodes,
            "seconds": self.seconds,
            "faults": schedules.as_json(self.faults),
            "answered": self.answered,
            "accepted": self.accepted,
            "delivered": self.delivered,
            "changes": self.changes,
            "entries": self.entries,
            "skipped": self.skipped,
            "fell": self.fell,
            "by_hand": self.by_hand,
            "violations": self.violations,
            "broken": self.broken,
            "took": round(self.took, 1),
            "settled": round(self.settled, 1),
            "waited_for": self.waited_for,
        }


async def run(
    servers: Servers,
    faults: Sequence[Fault],
    *,
    seed: int,
    seconds: float,
    rate: float,
    keep: Path | None = None,
) -> Outcome:
    """Run a schedule.

    Args:
        servers: all of them well; they may not be, afterwards, if the outcome is `broken`.
        faults: the schedule.
        seed: of all else that is drawn.
        seconds: how long the load runs, at least.
        rate: POSTs a second.
        keep: where the history and the logs of a run that fails are put.
    """
    outcome = Outcome(seed, len(servers.brokers), seconds, faults)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bridge-chaos-") as directory:
        folder = Path(directory)
        try:
            async with asyncio.timeout(seconds + 6 * _SETTLED_SECONDS):
                await _in_stack(servers, folder, outcome, rate)
            if not outcome.accepted:
                outcome.broken = "nothing was answered 200"
        except (*_UNREADABLE, ExceptionGroup, RuntimeError) as error:
            outcome.broken = _said(error)
        if keep is not None and (not outcome.good or outcome.settled > _SLOW_SECONDS):
            servers.keep_logs(_kept(folder, keep, outcome))
    outcome.took = time.monotonic() - began
    return outcome


async def _in_stack(servers: Servers, folder: Path, outcome: Outcome, rate: float) -> None:
    file = folder / "history.jsonl"
    name = f"chaos-{outcome.seed}-{time.time_ns() % 10**9}"
    lost = {queue for fault in outcome.faults for queue in losing(fault)}
    async with standing(servers, folder, seed=outcome.seed, name=name) as stack:
        with History.open(file) as recorder:
            async with using(
                stack,
                recorder,
                seed=outcome.seed,
                rate=rate,
                lost_by_deletion=lost,
                archived=_archive_lasts(outcome.faults),
            ) as clients:
                stack.subscribed = clients.subscribed
                try:
                    await _under_load(stack, clients, outcome)
                    if _stream_may_be_torn(outcome.faults) and (done := await replace_unreadable(stack)):
                        outcome.by_hand.append(done)
                    await _settled(clients, file, outcome)
                finally:
                    outcome.answered = dict(clients.poster.answered)
                    outcome.fell = [
                        f"{role.name}: {why}"
                        for role in (*stack.roles.values(), *stack.retired)
                        for why in role.fell
                    ]
                    _write_logs(stack, folder)


def _archive_lasts(faults: Sequence[Fault]) -> bool:
    """A stream does not sync: a power cut of a RabbitMQ may cost its end. And where the exchange is gone it gets nothing."""
    return not _stream_may_be_torn(faults) and not any(
        (one.kind, one.target, one.argument) == ("delete", "exchange", "events") for one in faults
    )


def _stream_may_be_torn(faults: Sequence[Fault]) -> bool:
    return any(
        one.kind == "power cut" and (one.target == ALL or one.target.startswith("rabbitmq")) for one in faults
    )


async def _under_load(stack: Stack, clients: Clients, outcome: Outcome) -> None:
    async with background_task(clients.poster.run(), name="poster") as posting:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(outcome.seconds), name="load")
            for fault in outcome.faults:
                tasks.create_task(_one(stack, fault, outcome), name=str(fault))
        clients.poster.may_end()
        await posting


async def _one(stack: Stack, fault: Fault, outcome: Outcome) -> None:
    await asyncio.sleep(fault.at)
    try:
        async with injected(stack, fault):
            await asyncio.sleep(fault.seconds)
    except SkippedError as reason:
        outcome.skipped.append(f"{fault.kind} {fault.target} {fault.argument}: {reason}")


async def _settled(clients: Clients, history: Path, outcome: Outcome) -> None:
    """Wait until nothing is wrong; what is wrong after that long, or does not change any more, is a violation."""
    began = changed = time.monotonic()
    before: object = None
    while True:
        found = await _judged(clients, history, outcome)
        now = time.monotonic()
        outcome.settled = now - began
        seen = outcome.changes, outcome.entries, [f"{one.rule} {one.about}" for one in found or ()]
        if seen != before:
            before, changed = seen, now
        if found == [] or now - changed > _SETTLED_SECONDS:
            break
        if (
            found is not None
            and now - changed > _STILL_SECONDS
            and not any(one.rule in _UNDER_WAY for one in found)
        ):
            break
        outcome.waited_for = "an answer" if found is None else str(found[0])
        await asyncio.sleep(_LOOK_EVERY_SECONDS + outcome.settled / 10)
    outcome.violations = [str(one) for one in found or ()]
    if found is None:
        raise AssertionError(f"after {_SETTLED_SECONDS:g} s the end cannot be looked at")


async def _judged(clients: Clients, history: Path, outcome: Outcome) -> list[Violation] | None:
    """What the checker says of the history until now; None: something that is looked at does not answer yet."""
    try:
        await clients.finish()
    except _UNREADABLE:
        return None
    whole = await asyncio.to_thread(History.read, history)
    outcome.delivered = len([one for one in whole.arrivals if one.delivered.queue == "audit"])
    outcome.changes = len({one.changed.id for one in whole.changes})
    outcome.entries = len(whole.final_list[0].entries) if whole.final_list else 0
    return await asyncio.to_thread(partial(check, whole, dead_letters=_given_up(whole, outcome.faults)))


def _given_up(history: History, faults: Sequence[Fault]) -> Collection[str]:
    """Dead letters that may be there: to a worker whose clock is hours ahead what failed a moment ago has failed for hours."""
    if not any(one.kind == "clock" and one.argument.startswith("+") for one in faults):
        return ()
    return [
        what for left, _ in history.leftovers.values() if left.where == "dead letters" for what in left.what
    ]


def _write_logs(stack: Stack, folder: Path) -> None:
    for role in (*stack.roles.values(), *stack.retired):
        lines = [line for process in role.processes for line in (f"--- pid {process.pid}", *process.lines)]
        (folder / f"{role.name}.log").write_text("\n".join(lines))


def _kept(folder: Path, keep: Path, outcome: Outcome) -> Path:
    """Returns where."""
    place = keep / f"seed-{outcome.seed}-{time.strftime('%H%M%S')}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "schedule.txt").write_text(
        "\n".join((schedules.shown(outcome.faults), *outcome.violations, outcome.broken))
    )
    for file in (*folder.glob("*.log"), *folder.glob("history*.jsonl"), *folder.glob("settings-*.toml")):
        shutil.copy(file, place)
    return place


def _said(error: BaseException) -> str:
    """What was at the bottom of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:2000]
