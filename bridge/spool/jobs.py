"""The jobs of the spool's thread: how they get to it in batches, and how their results get back to the event loop."""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bridge.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.spool.entries import SpoolEntry
    from bridge.spool.set_aside_entries import EntryTask

_MAX_PER_COMMIT: Final = 5000
"""About how many jobs one commit may have: it limits how long the first of them waits."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write an entry."""

    entry: SpoolEntry
    on_done: Callable[[SpoolError | None], None]
    """Called with None once the entry is fsynced, or with the error. It must not raise."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove entries."""

    entries: Sequence[SpoolEntry]
    done: asyncio.Future[None]
    """It never raises: if the disk fails, the entries are removed with a later commit."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the oldest entries with an id above `after`, at most `limit`."""

    after: int
    limit: int
    done: asyncio.Future[list[SpoolEntry]]


@dataclass(frozen=True, slots=True)
class RunTask:
    """Run a task on the set-aside entries, in a transaction of its own."""

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


class JobQueue:
    """Between the event loop and the spool's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._submitted: list[Job] = []
        self._unfinished: deque[tuple[float, list[Job]]] = deque()
        """Batches that wait for the thread, or are being done, oldest first, each with its start."""
        self._batches: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._is_abandoned = False

    @property
    def unfinished_since(self) -> float | None:
        """When the oldest batch that is not finished was handed over, by the monotonic clock; None if there is none."""
        return self._unfinished[0][0] if self._unfinished else None

    def submit(self, job: Job) -> None:
        """Submit a job. Those of one iteration of the loop are handed over together: waking the thread is what costs."""
        if not self._submitted:
            self._loop.call_soon(self._hand_over)
        self._submitted.append(job)

    def _hand_over(self) -> None:
        if self._submitted:
            self._unfinished.append((time.monotonic(), self._submitted))
            self._batches.put(self._submitted)
            self._submitted = []

    def end(self) -> None:
        """No more jobs will be submitted: the thread ends after those that were."""
        self._hand_over()
        self._batches.put(None)

    def abandon(self, error: SpoolError) -> None:
        """The thread may never return: complete all unfinished jobs with this error."""
        self._is_abandoned = True
        for _, jobs in self._unfinished:
            for job in jobs:
                completion_of(job, error)()

    def _finish(self, batches: int, completions: Iterable[Completion]) -> None:
        if self._is_abandoned:
            return
        for _ in range(batches):
            self._unfinished.popleft()
        for completion in completions:
            completion()

    # From here on, for the spool's thread.

    def next_batches(self, timeout: float) -> list[list[Job]] | None:
        """All waiting batches, for one commit; empty if none comes in `timeout` seconds; None at the end."""
        try:
            first = self._batches.get(timeout=timeout)
        except queue.Empty:
            return []
        if first is None:
            return None
        batches, count = [first], len(first)
        while count < _MAX_PER_COMMIT:
            try:
                more = self._batches.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._batches.put(None)
                break
            batches.append(more)
            count += len(more)
        return batches

    def finish(self, batches: int, completions: Iterable[Completion]) -> None:
        """Call these in the event loop. Args: how many batches, the oldest, are done; the completions of their jobs."""
        self.call_in_loop(self._finish, batches, completions)

    def call_in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop, soon."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)
