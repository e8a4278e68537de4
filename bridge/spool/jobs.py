"""What the spool's thread is asked for, and how whoever asked is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.spool.folder import SpoolError

if TYPE_CHECKING:
    import asyncio

    from bridge.spool.refused_entries import Task
    from bridge.spool.spool_file import Entry


@dataclass(frozen=True, slots=True)
class Put:
    entry: Entry
    told: Callable[[SpoolError | None], None]


@dataclass(frozen=True, slots=True)
class Remove:
    entries: Sequence[Entry]
    done: asyncio.Future[None]
    """It never raises: where the disk refuses, they are removed later."""


@dataclass(frozen=True, slots=True)
class Read:
    after: int
    limit: int
    done: asyncio.Future[list[Entry]]


@dataclass(frozen=True, slots=True)
class Do:
    """Something with the entries that are set aside."""

    task: Task[Any]
    done: asyncio.Future[Any]


Job = Put | Remove | Read | Do
Outcome = Callable[[], object]
"""What is to be called in the event loop."""


def outcome_of(job: Job, outcome: Any) -> Outcome:
    """Args: what came of it; a `SpoolError` when nothing did."""
    if isinstance(job, Put):
        return partial(job.told, outcome)
    if isinstance(job, Remove):
        return partial(_resolve, job.done, None)
    return partial(_resolve, job.done, outcome)


def _resolve(done: asyncio.Future[Any], outcome: object) -> None:
    if done.done():
        return
    if isinstance(outcome, SpoolError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
