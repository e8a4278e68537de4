"""The first sentence of the overview: is all well? Never yes where it is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.console.figures import in_spools
from bridge.diagnostics.finding import CheckStatus

if TYPE_CHECKING:
    from bridge.console.checkup import Findings
    from bridge.console.monitor import Look, Monitor
    from bridge.diagnostics.status import Status


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the page says first."""

    kind: str
    """`good`, `warn`, `bad`, or `quiet` where it is not known."""
    sentence: str
    more: str
    """What it is about, in a sentence."""
    checked: tuple[str, ...]
    """What has answered and is well, a line each."""
    unseen: tuple[str, ...]
    """What is not known, and why, a line each."""


def verdict_of(monitor: Monitor) -> Verdict:
    """Of the last look, and of the last checks."""
    look = monitor.latest
    if look is None:
        return Verdict("quiet", "Not known yet.", "The first look takes 15 s at the most.", (), ())
    status = look.status
    unseen = (
        *_unasked(status),
        *_unknown_spool(status),
        *(status.unseen if status else ()),
        *_unchecked(monitor),
    )
    if monitor.is_stale:
        more = "The last look is old: it does not come to an end. What you see below is of that time."
        return Verdict("bad", "Not known now.", more, (), unseen)
    if status is None:
        more = f"The last look has failed: {look.failure}. The log of this process says more (console.look_failed)."
        return Verdict("bad", "Not known now.", more, (), unseen)
    checked = (*_seen(monitor, status), *_well(monitor))
    kind, sentence, more = _judged(look, monitor.checkup.latest)
    if kind == "good" and (unasked := _unasked(status)):
        kind, sentence, more = "warn", "What could be asked is well.", " ".join(unasked)
    if kind == "good":
        more = f"{more} {len(checked)} things were checked, {_count(len(unseen))} not known: both are listed below."
    return Verdict(kind, sentence, more, checked, unseen)


def _judged(look: Look, findings: Findings | None) -> tuple[str, str, str]:
    """Kind, sentence and more, where the look is of now."""
    wrong = findings.wrong if findings else ()
    failed = sum(one.finding.status is CheckStatus.FAILED for one in wrong)
    if look.standing:
        more = "The first line first: others may follow from it."
        return "bad", f"{_things(len(look.standing))} wrong.", more if len(look.standing) > 1 else ""
    if failed:
        more = "What runs is well now, but something is set up wrongly: an event can be lost."
        return "bad", f"{_checks(failed)} failed.", more
    if wrong:
        return "warn", "All that runs is well.", f"{_checks(len(wrong))} found something to look at."
    if findings is None:
        return "good", "All that runs is well.", "The checks of how it is set up are still running."
    return "good", "All is well.", "There is nothing to do."


def _unasked(status: Status | None) -> list[str]:
    """Roles without which nothing is well, of which none was asked."""
    kinds = {role.kind for role in status.roles} if status else {"receiver", "worker"}
    return [
        f"No {kind} was asked: name the health addresses of all roles in health.roles (BRIDGE_HEALTH__ROLES)."
        for kind in ("receiver", "worker")
        if kind not in kinds
    ]


def _unknown_spool(status: Status | None) -> list[str]:
    if status is None or in_spools(status) is not None:
        return []
    return ["what waits in the spool: no receiver says so, and there is no spool file here"]


def _seen(monitor: Monitor, status: Status) -> list[str]:
    """What the look has asked, where the answer was good."""
    ready = [f"{role.kind} {role.url}" for role in status.roles if role.ready and not role.problem]
    lines = [f"{one} is ready" for one in ready]
    if not status.broker.problem:
        there = [queue for queue in status.broker.queues if not queue.problem]
        lines.append(f"RabbitMQ {status.broker.version} answers, and {len(there)} queues are there")
    if status.broker.nodes:
        running = [node for node in status.broker.nodes if node.running and not node.alarms]
        lines.append(f"{len(running)} of {len(status.broker.nodes)} nodes of RabbitMQ run without an alarm")
    if status.broker.unbound == ():
        lines.append("every binding is there")
    if in_spools(status) == 0:
        lines.append("the spool is empty")
    if not monitor.list_problem:
        lines.append("the database of the suppression list answers")
    return lines


def _well(monitor: Monitor) -> list[str]:
    findings = monitor.checkup.latest
    return [f"{one.check}: {one.seen}" for one in findings.well] if findings else []


def _unchecked(monitor: Monitor) -> list[str]:
    findings = monitor.checkup.latest
    return [f"{one.check}: {one.seen}" for one in findings.skipped] if findings else []


def _count(count: int) -> str:
    return "one is" if count == 1 else f"{count} are" if count else "none is"


def _things(count: int) -> str:
    return "One thing is" if count == 1 else f"{count} things are"


def _checks(count: int) -> str:
    return "One check" if count == 1 else f"{count} checks"
