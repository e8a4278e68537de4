"""The jobs of the spool's thread, and how their results get back to the event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.spool.folder import SpoolError

if TYPE_CHECKING:
    import asyncio

    from bridge.spool.refused_entries import EntryTask
    from bridge.spool.spool_file import SpoolEntry


@dataclass(frozen=True, slots=True)
class Put:
    entry: SpoolEntry
    on_done: Callable[[SpoolError | None], None]


@dataclass(frozen=True, slots=True)
class Remove:
    entries: Sequence[SpoolEntry]
    done: asyncio.Future[None]
    """It never raises: if the disk fails, the entries are removed later."""


@dataclass(frozen=True, slots=True)
class Read:
    after: int
    limit: int
    done: asyncio.Future[list[SpoolEntry]]


@dataclass(frozen=True, slots=True)
class RunTask:
    """A task on the refused entries."""

    task: EntryTask[Any]
    done: asyncio.Future[Any]


Job = Put | Remove | Read | RunTask
Completion = Callable[[], object]
"""To be called in the event loop."""


def completion_of(job: Job, result: Any) -> Completion:
    """The completion of a job. Args: the job; its result, or a `SpoolError`."""
    if isinstance(job, Put):
        return partial(job.on_done, result)
    if isinstance(job, Remove):
        return partial(_resolve, job.done, None)
    return partial(_resolve, job.done, result)


def _resolve(done: asyncio.Future[Any], result: object) -> None:
    if done.done():
        return
    if isinstance(result, SpoolError):
        done.set_exception(result)
    else:
        done.set_result(result)
