"""Everything that `status` finds wrong: what kind of problem, what it is about, and one line that says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bridge.spool.set_aside_entries import NACKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
    from bridge.diagnostics.role_status import LabelledValues, RoleStatus
    from bridge.diagnostics.spool_status import SpoolStatus

_STALE_SPOOL_SECONDS: Final = 60.0
"""Events that wait longer in the spool are reported."""
_SPOOL: Final = "`bridge spool status`"
_WHERE: Final = {NACKED: f"{_SPOOL}; `bridge doctor` names the queue that rejects"}
"""Reason of a refusal -> where to look."""


class ProblemKind(StrEnum):
    """What is wrong. With what it is about, this tells whether two looks have seen the same problem."""

    ROLE_SILENT = "role silent"
    ROLE_NOT_READY = "role not ready"
    BREAKER_OPEN = "breaker open"
    BROKER_DOWN = "broker down"
    DATABASE_DOWN = "database down"
    """The list's: only the console asks it."""
    QUEUE_MISSING = "queue missing"
    NODE_DOWN = "node down"
    ALARM = "alarm"
    BINDING_MISSING = "binding missing"
    NO_WORKER = "no worker"
    DEAD_LETTERS = "dead letters"
    SUBSCRIBER_IDLE = "subscriber idle"
    QUARANTINE = "quarantine"
    BACKFILL = "backfill"
    SPOOL_UNREADABLE = "spool unreadable"
    SPOOL_FILE = "spool file"
    SET_ASIDE = "set aside"
    SPOOL_WAITS = "spool waits"
    SPOOL_LEFT = "spool left behind"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong."""

    kind: ProblemKind
    about: str
    """The role, node, queue, binding or file; empty where there is only one."""
    line: str
    """What is wrong, with its numbers of now, and for most what to do."""

    @property
    def key(self) -> tuple[ProblemKind, str]:
        """The same for one problem at all looks, whatever its numbers."""
        return self.kind, self.about


def wrong_roles(seen: Sequence[RoleStatus]) -> list[Problem]:
    """Roles that do not answer, or say themselves that they are not ready."""
    found = []
    for role in seen:
        if role.problem:
            line = f"{role.url} cannot be asked: {role.problem}"
            found.append(Problem(ProblemKind.ROLE_SILENT, role.url, line))
        elif not role.ready or role.reasons:
            line = f"{role.kind} {role.url}: {'; '.join(role.reasons) or 'not ready'}"
            found.append(Problem(ProblemKind.ROLE_NOT_READY, role.url, line))
    return found


def open_breakers(breakers: LabelledValues) -> list[Problem]:
    """Dependencies for which the workers wait."""
    return [
        Problem(ProblemKind.BREAKER_OPEN, name, f"workers wait for the {name}: its circuit breaker is open")
        for name, state in sorted(breakers.items())
        if state
    ]


def wrong_broker(broker: BrokerStatus, suppression: QueueStatus, dead: QueueStatus) -> list[Problem]:
    """RabbitMQ, its nodes, the bridge's queues and bindings, the workers' consumers and the dead letters."""
    if broker.problem:
        return [Problem(ProblemKind.BROKER_DOWN, "", f"RabbitMQ cannot be reached: {broker.problem}")]
    found = [
        Problem(ProblemKind.QUEUE_MISSING, queue.name, f"{queue.name}: {queue.problem}")
        for queue in broker.queues
        if queue.problem
    ]
    for node in broker.nodes or ():
        if not node.running:
            found.append(Problem(ProblemKind.NODE_DOWN, node.name, f"node {node.name} does not run"))
        found.extend(
            Problem(
                ProblemKind.ALARM,
                f"{alarm} of {node.name}",
                f"node {node.name} has a {alarm} alarm: RabbitMQ blocks publishers",
            )
            for alarm in node.alarms
        )
    for binding in broker.unbound or ():
        line = f"'{binding.queue}' is not bound to '{binding.exchange}' with '{binding.key}': run `bridge topology apply`"
        about = f"{binding.exchange} {binding.queue} {binding.key}"
        found.append(Problem(ProblemKind.BINDING_MISSING, about, line))
    if suppression.consumers == 0:
        line = "no worker consumes the suppression queue: start `bridge worker`"
        found.append(Problem(ProblemKind.NO_WORKER, "", line))
    if dead.ready:
        line = f"{dead.ready:,} dead letters: see `bridge dead list`"
        found.append(Problem(ProblemKind.DEAD_LETTERS, "", line))
    return found


def wrong_quarantine(quarantine: QueueStatus) -> list[Problem]:
    """Bodies that were no events."""
    if not quarantine.ready:
        return []
    count = f"{quarantine.ready:,} bod{'y is' if quarantine.ready == 1 else 'ies are'}"
    return [Problem(ProblemKind.QUARANTINE, "", f"{count} in the quarantine: see `bridge quarantine list`")]


def wrong_backfill(markers: QueueStatus, events: LabelledValues) -> list[Problem]:
    """Events that the suppression queue has missed, and that are still to come from the archive."""
    if not markers.ready:
        return []
    so_far = f"{int(sum(events.values())):,} events since the workers' start"
    line = f"the suppression queue has missed events (it was deleted, or lost bindings), and is still being refilled from the archive: {so_far}"
    return [Problem(ProblemKind.BACKFILL, "", line)]


def wrong_spool(seen: SpoolStatus) -> list[Problem]:
    """Files that cannot be read, and events that stay where they should only pass."""
    found = [Problem(ProblemKind.SPOOL_FILE, line.partition(": ")[0], line) for line in seen.problems]
    refused: dict[tuple[str, str], int] = {}
    for one in seen.set_aside:
        cause = one.reason, one.reply_text
        refused[cause] = refused.get(cause, 0) + one.entries
    found += [
        Problem(
            ProblemKind.SET_ASIDE,
            f"{reason}: {said}",
            f"{entries:,} events are set aside, because RabbitMQ refuses them ({reason}): {said}; see {_WHERE.get(reason, _SPOOL)}",
        )
        for (reason, said), entries in refused.items()
    ]
    waiting = seen.entries - sum(one.entries for one in seen.set_aside)
    if waiting > 0 and seen.oldest_age is not None and seen.oldest_age > _STALE_SPOOL_SECONDS:
        line = f"{waiting:,} events wait in the spool, the oldest for {seen.oldest_age:.0f} s"
        found.append(Problem(ProblemKind.SPOOL_WAITS, "", line))
    if seen.left_behind:
        line = (
            f"{seen.left_behind:,} events are in spool files that no receiver uses: "
            "start one, or `bridge spool drain`"
        )
        found.append(Problem(ProblemKind.SPOOL_LEFT, "", line))
    return found


def wrong_receivers_spool(entries: LabelledValues, oldest: float, seen: SpoolStatus | None) -> list[Problem]:
    """What the receivers say waits in their spools, where the folder here shows none of it: it may be on another machine.

    Args:
        entries: of each receiver, by its address.
        oldest: seconds for which the oldest of all has waited.
        seen: the folder here; None: it cannot be read.
    """
    waiting = int(sum(entries.values()))
    if not waiting or oldest <= _STALE_SPOOL_SECONDS or (seen is not None and seen.entries):
        return []
    line = f"{waiting:,} events wait in the receivers' spools, the oldest for {oldest:.0f} s"
    return [Problem(ProblemKind.SPOOL_WAITS, "", line)]


def lines_of(problems: Iterable[Problem]) -> tuple[str, ...]:
    """A line for each."""
    return tuple(problem.line for problem in problems)
