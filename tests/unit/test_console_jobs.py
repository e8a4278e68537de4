"""Jobs of the console: progress, an end in words whatever happens, and never two on the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from bridge.amqp.errors import BrokerUnavailableError
from bridge.console import jobs as module
from bridge.console.errors import NotFoundError, PageError
from bridge.console.jobs import Job, JobOrder, Jobs, JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.console.visitor import Visitor


class Anna:
    actor = "console:anna"


ANNA = cast("Visitor", Anna())
ORDER = JobOrder("replay", "Replay of 3", "write", "/dead-letters", note="because", lane="letters")


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    running = Jobs()
    yield running
    await running.close()


async def ended(jobs: Jobs, job: Job) -> Job:
    await jobs.wait(job, 20)
    assert not job.running
    return job


async def test_a_job_tells_its_progress_and_its_end(jobs: Jobs) -> None:
    """Two lines of the log have who, why, what and how many."""

    async def work(job: Job) -> None:
        job.move(0, 3)
        await asyncio.sleep(0)
        job.move(3)
        job.outcome = "3 went back."

    with structlog.testing.capture_logs() as lines:
        job = await ended(jobs, jobs.start(ORDER, ANNA, work))
    assert (job.state, job.done, job.total, job.outcome) == (JobState.FINISHED, 3, 3, "3 went back.")
    assert [line["action"] for line in lines] == ["console.replay", "console.replay_ended"]
    assert all((line["actor"], line["note"]) == ("console:anna", "because") for line in lines)
    assert (lines[1]["done"], lines[1]["outcome"]) == (3, "3 went back.")
    assert jobs.get(job.id) is job
    assert jobs.recent("/dead-letters") == [job]


async def test_a_job_that_is_stopped_says_how_far_it_came(jobs: Jobs) -> None:
    """By a person, or because the process ends: the work is cancelled, and has the time to end in order."""
    stopped_in_order: list[str] = []

    async def work(job: Job) -> None:
        try:
            job.move(1, 3)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped_in_order.append(job.id)
            job.outcome = "1 went back."

    first = jobs.start(ORDER, ANNA, work)
    await asyncio.sleep(0)
    jobs.stop(first)
    await ended(jobs, first)
    assert (first.state, first.outcome) == (JobState.STOPPED, "1 went back.")
    second = jobs.start(ORDER, ANNA, work)
    await asyncio.sleep(0)
    await jobs.close()
    assert (second.state, stopped_in_order) == (JobState.STOPPED, [first.id, second.id])


@pytest.mark.parametrize(
    ("error", "says"),
    [(BrokerUnavailableError("RabbitMQ is away"), "RabbitMQ is away"), (KeyError("secret"), "unforeseen")],
)
async def test_a_failure_is_said_in_words(jobs: Jobs, error: Exception, says: str) -> None:
    """What nobody has foreseen is in the log only."""

    async def work(_: Job) -> None:
        raise error

    with structlog.testing.capture_logs() as lines:
        job = await ended(jobs, jobs.start(ORDER, ANNA, work))
    assert job.state is JobState.FAILED
    assert says in job.error
    assert "secret" not in job.error
    unforeseen = [line for line in lines if line["action"] == "console.job_failure"]
    assert len(unforeseen) == isinstance(error, KeyError)
    assert all(line["exc_info"] is error for line in unforeseen)


async def test_two_on_the_same_exclude_each_other(jobs: Jobs) -> None:
    """The second is told who works on it; when that has ended, it may."""
    go_on = asyncio.Event()

    async def work(_: Job) -> None:
        await go_on.wait()

    first = jobs.start(ORDER, ANNA, work)
    assert jobs.in_lane("letters") is first
    with pytest.raises(PageError, match="“Replay of 3”, started by console:anna, is not finished"):
        jobs.start(ORDER, ANNA, work)
    other = JobOrder("search", "Search", "read", "/archive")
    jobs.start(other, ANNA, work)
    go_on.set()
    await ended(jobs, first)
    await ended(jobs, jobs.start(ORDER, ANNA, work))


async def test_there_are_only_so_many(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and kept; those that run are never forgotten."""
    monkeypatch.setattr(module, "MOST_RUNNING", 2)
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    order = JobOrder("search", "Search", "read", "/archive")

    async def at_once(_: Job) -> None:
        pass

    async def for_ever(_: Job) -> None:
        await asyncio.Event().wait()

    running = jobs.start(order, ANNA, for_ever)
    short = [await ended(jobs, jobs.start(order, ANNA, at_once)) for _ in range(4)]
    jobs.start(order, ANNA, for_ever)
    with pytest.raises(PageError, match="2 jobs of this kind are running already"):
        jobs.start(order, ANNA, for_ever)
    jobs.start(ORDER, ANNA, for_ever)
    assert jobs.get(running.id) is running
    with pytest.raises(NotFoundError):
        jobs.get(short[0].id)
    monkeypatch.setattr(module, "KEPT_SECONDS", -1)
    with pytest.raises(NotFoundError):
        jobs.get(short[-1].id)
    assert jobs.get(running.id) is running


async def test_what_nobody_looks_at_any_more_is_stopped(jobs: Jobs) -> None:
    """A search, whose page was left; a look keeps it."""
    order = JobOrder("search", "Search", "read", "/archive", abandoned_after=0.05)

    async def for_ever(_: Job) -> None:
        await asyncio.Event().wait()

    async def short(job: Job) -> None:
        job.outcome = "done"

    job = await ended(jobs, jobs.start(order, ANNA, for_ever))
    assert job.state is JobState.STOPPED
    patient = replace(order, abandoned_after=20)
    assert (await ended(jobs, jobs.start(patient, ANNA, short))).state is JobState.FINISHED


async def test_a_form_that_is_sent_twice_starts_one_job(jobs: Jobs) -> None:
    """Also after the first has ended; another form, another person, or a form without a key starts one of its own."""

    class Bob:
        actor = "console:bob"

    async def work(job: Job) -> None:
        job.move(1)

    form = replace(ORDER, once="3f2a")
    first = await ended(jobs, jobs.start(form, ANNA, work))
    assert jobs.start(form, ANNA, work) is first
    others = [
        await ended(jobs, jobs.start(order, who, work))
        for order, who in (
            (form, cast("Visitor", Bob())),
            (replace(ORDER, once="77b0"), ANNA),
            (ORDER, ANNA),
            (ORDER, ANNA),
        )
    ]
    assert len({first.id, *(job.id for job in others)}) == 5
