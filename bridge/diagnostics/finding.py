"""What a check has found: how it stands, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, but not in every case; the advice says in which."""
    FAILED = "failed"
    """Something does not work, or an event can be lost."""
    SKIPPED = "skipped"
    """It could not be looked at; what was seen says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """What was looked at, for example `alternate exchange`."""
    verdict: Verdict
    seen: str
    """One line, without a secret."""
    advice: str = ""
    """What to do; empty where there is nothing to do."""


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Verdict.OK, seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARNING, seen, advice)


def failed(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, Verdict.FAILED, seen, advice)


def skipped(check: str, seen: str, advice: str = "") -> Finding:
    return Finding(check, Verdict.SKIPPED, seen, advice)
