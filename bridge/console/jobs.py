"""Work that goes on after its page was answered: replays, discards, searches. Each has a progress, and can be stopped."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.console.errors import NotFoundError, PageError
from bridge.dead_letters.message_file import MessageFileError
from bridge.dead_letters.queue_reader import BusyError
from bridge.operations.replay import ReplayError
from bridge.settings.errors import InvalidSettingsError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bridge.console.visitor import Visitor

log = logs.logger("console")

KEPT_SECONDS: Final = 3600.0
"""How long a job that has ended can be looked at."""
MOST_RUNNING: Final = 8
"""Of each kind: whoever searches much holds up no replay."""
MOST_KEPT: Final = 100
QUIET_SECONDS: Final = 10.0
"""After so long without progress the page says what may be the reason."""

_CLOSE_SECONDS: Final = 8.0

WORDED_ERRORS: Final = (
    BrokerUnavailableError,
    TopologyRefusedError,
    BusyError,
    MessageFileError,
    ReplayError,
    InvalidSettingsError,
    OSError,
)
"""Errors whose message says what happened and what to do."""


class JobState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a job is, for people and for the log."""

    action: str
    """In the log, such as `replay_dead_letters`."""
    title: str
    """Such as "Replay of 31 dead letters"."""
    scope: str
    """Who has it may stop the job."""
    back: str
    """The page below /console that it belongs to."""
    note: str = ""
    lane: str = ""
    """Jobs of one lane exclude each other; empty: it excludes none."""
    once: str = ""
    """The key of the form: one that is sent twice starts one job. Empty: it has none."""
    abandoned_after: float | None = None
    """Seconds in which nobody looks, after which it is stopped. None: it goes on by itself."""


@dataclass(slots=True)
class Job:
    """A piece of work, and how far it has come."""

    id: str
    order: JobOrder
    actor: str
    started_at: float
    """Unix seconds, as all times here."""
    done: int = 0
    total: int | None = None
    """None while it is unknown."""
    state: JobState = JobState.RUNNING
    outcome: str = ""
    """What was done, in a sentence or two. The work keeps it up to date."""
    error: str = ""
    """Why it failed, and what to do."""
    file: Path | None = None
    """What it has written, for a download."""
    following: str = ""
    """The page below /console where one goes on."""
    moved_at: float = 0.0
    ended_at: float | None = None
    looked_at: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""

    @property
    def running(self) -> bool:
        return self.state is JobState.RUNNING

    @property
    def quiet(self) -> bool:
        """Whether it has made no progress for a while."""
        return self.running and time.time() - self.moved_at > QUIET_SECONDS

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended_at or time.time()) - self.started_at

    def move(self, done: int, total: int | None = None) -> None:
        """Tell the progress."""
        self.done, self.moved_at = done, time.time()
        if total is not None:
            self.total = total


class Jobs:
    """The jobs of this process. They end with it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, order: JobOrder, visitor: Visitor, work: Callable[[Job], Awaitable[None]]) -> Job:
        """Start the work in the background; or find the job that the same form of the same visitor has started already.

        Args:
            order: what it is.
            visitor: who wants it.
            work: does it. It tells its progress by `Job.move`, and what was done by `Job.outcome`, also where it is cancelled.

        Raises:
            PageError: another job is in its lane, or too many run.
        """
        self._forget()
        if (same := self._of_form(order.once, visitor.actor)) is not None:
            return same
        if (other := self.in_lane(order.lane)) is not None:
            raise PageError(
                f"“{other.order.title}”, started by {other.actor}, is not finished. Wait for its end, or stop it. "
                "Nothing was changed.",
                title="Somebody else works on the same",
                status=HTTPStatus.CONFLICT,
            )
        running = sum(job.running and job.order.action == order.action for job in self._jobs.values())
        if running >= MOST_RUNNING:
            raise PageError(
                f"{running} jobs of this kind are running already. Wait until one of them has ended.",
                title="Too much at once",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            )
        now = time.time()
        job = Job(secrets.token_hex(8), order, visitor.actor, now, moved_at=now)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, work), name=f"console.{order.action}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda ended: self._on_end(job, ended))
        log.info("a job started", action=f"console.{order.action}", **_told(job))
        return job

    def get(self, job_id: str) -> Job:
        """The job with this id.

        Raises:
            NotFoundError: there is none, or none any more.
        """
        self._forget()
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(
                "It ended more than an hour ago, or the process that ran it was started again. A job that was cut off "
                "lost nothing: what it had not come to is where it was. The log has its start and end.",
                title="This job is not known any more",
            )
        job.looked_at = time.monotonic()
        return job

    def in_lane(self, lane: str) -> Job | None:
        """The job that runs in this lane."""
        found = (job for job in self._jobs.values() if job.running and job.order.lane == lane)
        return next(found, None) if lane else None

    def _of_form(self, once: str, actor: str) -> Job | None:
        found = (job for job in self._jobs.values() if (job.order.once, job.actor) == (once, actor))
        return next(found, None) if once else None

    def recent(self, back: str) -> list[Job]:
        """The jobs of a page with a note, the latest first. Args: as `JobOrder.back`."""
        self._forget()
        found = [job for job in self._jobs.values() if job.order.back == back and job.order.note]
        return sorted(found, key=lambda job: -job.started_at)

    def stop(self, job: Job) -> None:
        """Cancel it. It ends soon after, in order."""
        if (task := self._tasks.get(job.id)) is not None:
            task.cancel()

    async def wait(self, job: Job, seconds: float) -> None:
        """Until the job has ended, or so long."""
        if (task := self._tasks.get(job.id)) is not None:
            await asyncio.wait([task], timeout=seconds)

    async def close(self) -> None:
        """Stop all of them, and wait until each has ended in order; not for ever, where RabbitMQ or a disk hangs."""
        for task in (tasks := [*self._tasks.values()]):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> None:
        try:
            if job.order.abandoned_after is None:
                await work(job)
            else:
                await _while_looked_at(job, work(job), job.order.abandoned_after)
        except _AbandonedError:
            job.state = JobState.STOPPED
        except WORDED_ERRORS as error:
            job.state, job.error = JobState.FAILED, str(error)
        else:
            job.state = JobState.FINISHED

    def _on_end(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._tasks[job.id]
        job.ended_at = time.time()
        if task.cancelled():
            job.state = JobState.STOPPED
        elif (error := task.exception()) is not None:
            job.state = JobState.FAILED
            job.error = (
                "Something unforeseen happened. It has been logged, with the action console.job_failure."
            )
            log.error("a job failed unexpectedly", action="console.job_failure", exc_info=error, **_told(job))
        log.info(
            "a job ended",
            action=f"console.{job.order.action}_ended",
            **_told(job),
            state=str(job.state),
            done=job.done,
            total=job.total,
            outcome=job.outcome,
            error=job.error,
        )

    def _forget(self) -> None:
        """Those that ended long ago, and the oldest of too many."""
        now = time.time()
        ended = [job for job in self._jobs.values() if job.ended_at is not None]
        surplus = len(self._jobs) - MOST_KEPT
        for number, job in enumerate(sorted(ended, key=lambda job: job.ended_at or now)):
            if number < surplus or now - (job.ended_at or now) > KEPT_SECONDS:
                del self._jobs[job.id]


class _AbandonedError(Exception):
    """Nobody looks at the job any more."""


async def _while_looked_at(job: Job, work: Awaitable[None], patience: float) -> None:
    """Raises _AbandonedError: nobody has looked for so many seconds."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            left = job.looked_at + patience - time.monotonic()
            if left <= 0:
                raise _AbandonedError
            await asyncio.wait([task], timeout=left)
    finally:
        task.cancel()
        await asyncio.wait([task])
    await task


def _told(job: Job) -> dict[str, str]:
    return {"job": job.id, "title": job.order.title, "actor": job.actor, "note": job.order.note}


JOBS: Final = web.AppKey("console.jobs", Jobs)


async def running_jobs(app: web.Application) -> AsyncIterator[None]:
    """For `cleanup_ctx`: jobs that still run when the process stops are stopped in order."""
    yield
    await app[JOBS].close()


def jobs_of(request: web.Request) -> Jobs:
    """The jobs of this process."""
    return request.config_dict[JOBS]
