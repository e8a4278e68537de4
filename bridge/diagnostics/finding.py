"""The result of one check of the doctor: its status, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """The result of a check, in a word."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not in every case."""
    FAILED = "failed"
    """It does not work, or an event can be lost."""
    SKIPPED = "skipped"
    """It could not be checked; `seen` says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found."""

    check: str
    """Name of the check, for example `alternate exchange`."""
    status: CheckStatus
    seen: str
    """One line, without secrets."""
    advice: str = ""
    """What to do; empty if there is nothing to do."""


def ok(check: str, seen: str) -> Finding:
    """A finding with nothing to do."""
    return Finding(check, CheckStatus.OK, seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    """A finding of something that works, but not in every case."""
    return Finding(check, CheckStatus.WARNING, seen, advice)


def failed(check: str, seen: str, advice: str) -> Finding:
    """A finding of something that does not work, or can lose an event."""
    return Finding(check, CheckStatus.FAILED, seen, advice)


def skipped(check: str, seen: str, advice: str = "") -> Finding:
    """A finding of something that could not be checked; `seen` says why."""
    return Finding(check, CheckStatus.SKIPPED, seen, advice)
