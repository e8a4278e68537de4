"""What the faults of a run have shown of the alerts: each must have fired in time, and must have cleared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.programs.stack.alerts import FIRES_WITHIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tests.programs.stack.alerts import Expected, Firing

_A_MOMENT_SECONDS: Final = 30.0
"""What is healthy again by then must wake nobody."""
_CRITICAL: Final = "critical"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the stack, in seconds of `time.monotonic`."""

    step: str
    expected: tuple[Expected, ...]
    """What it must raise; nothing where it is no fault."""
    began: float
    ended: float
    """When all that it touched was healthy again."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One line of the table."""

    fault: str
    alert: str
    severity: str
    """Empty where it has not fired."""
    fired: float | None
    """Seconds from the beginning of the fault."""
    cleared: float | None
    """Seconds from when all was healthy again; 0 where it was so before."""
    expected: bool
    wrong: str = ""


def proofs(faults: Sequence[Fault], seen: Sequence[Firing]) -> list[Proof]:
    """For each fault what it must raise, and what it has raised besides.

    What fires after the next fault that must raise the same is no proof of the one before.

    Args:
        faults: in the order in which they began.
        seen: all that has fired, in the order in which it began.
    """
    found: list[Proof] = []
    explained: list[Firing] = []
    for number, fault in enumerate(faults, start=1):
        for expected in fault.expected:
            next_one = min(
                (one.began for one in faults[number:] if expected in one.expected), default=math.inf
            )
            firings = [one for one in seen if fault.began <= one.began < next_one and one.meets(expected)]
            explained += firings
            found.append(_proof(fault, expected, firings))
    proven = {expected.name for fault in faults for expected in fault.expected}
    besides = [one for one in seen if all(one is not known for known in explained)]
    ends = [*(fault.began for fault in faults[1:]), math.inf]
    for fault, end in zip(faults, ends, strict=False):  # of no fault there is still an end
        during = (one for one in besides if fault.began <= one.began < end)
        found += [_beside(fault, one, proven) for one in during]
    return sorted(found, key=lambda one: [fault.step for fault in faults].index(one.fault))


def _proof(fault: Fault, expected: Expected, firings: Iterable[Firing]) -> Proof:
    first = next(iter(firings), None)
    if first is None:
        return Proof(fault.step, str(expected), "", None, None, expected=True, wrong="has not fired")
    fired, cleared = first.began - fault.began, _cleared(fault, first)
    wrong = [f"fired only after {fired:.0f} s"] if fired > FIRES_WITHIN_SECONDS else []
    wrong += ["does not clear"] if cleared is None else []
    severity = first.labels.get("severity", "")
    return Proof(fault.step, str(expected), severity, fired, cleared, expected=True, wrong=", ".join(wrong))


def _beside(fault: Fault, firing: Firing, proven: Collection[str]) -> Proof:
    """An outage has consequences, and so has a machine that is too busy. But what is none must not look like one."""
    severity = firing.labels.get("severity", "")
    wrong = ""
    if firing.name not in proven:
        pass
    elif not fault.expected:
        wrong = "fired though nothing was wrong"
    elif severity == _CRITICAL and fault.ended - fault.began < _A_MOMENT_SECONDS:
        wrong = "wakes somebody for what is over in a moment"
    labels = {
        label: value for label, value in firing.labels.items() if label not in {"alertname", "severity"}
    }
    named = ", ".join(f"{label}={value}" for label, value in labels.items())
    return Proof(
        fault.step,
        f"{firing.name} ({named})" if named else firing.name,
        severity,
        firing.began - fault.began,
        _cleared(fault, firing),
        expected=False,
        wrong=wrong,
    )


def _cleared(fault: Fault, firing: Firing) -> float | None:
    return None if firing.ended is None else max(0.0, firing.ended - fault.ended)
