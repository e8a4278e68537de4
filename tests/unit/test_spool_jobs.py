"""Jobs between the event loop and the spool's thread, and a thread that does not return. No disk, no thread."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.spool import stall
from bridge.spool.entries import SpoolEntry
from bridge.spool.errors import SpoolError
from bridge.spool.jobs import JobQueue, Put, Read, Remove, completion_of
from bridge.spool.stall import StallDetector

ENTRY = SpoolEntry(1, 1, b"body")


def put(outcomes: list[SpoolError | None]) -> Put:
    return Put(ENTRY, outcomes.append)


async def test_jobs_of_one_iteration_of_the_loop_are_one_batch() -> None:
    """They are handed over in order. What waits is fetched together; after the last batch comes the end."""
    jobs = JobQueue()
    first, second, third = put([]), Read(0, 10, asyncio.Future()), put([])
    jobs.submit(first)
    jobs.submit(second)
    await asyncio.sleep(0)
    jobs.submit(third)
    jobs.end()
    assert jobs.next_batches(0) == [[first, second], [third]]
    assert jobs.next_batches(0) is None


async def test_a_batch_is_unfinished_until_its_results_are_in_the_loop() -> None:
    """Its callers hear of it only then; before, the disk may be stuck with it."""
    jobs, outcomes = JobQueue(), list[SpoolError | None]()
    jobs.submit(put(outcomes))
    await asyncio.sleep(0)
    batches = jobs.next_batches(0)
    assert batches is not None
    assert jobs.unfinished_since is not None
    jobs.finish(len(batches), [completion_of(batches[0][0], None)])
    assert outcomes == []
    await asyncio.sleep(0)
    assert outcomes == [None]
    assert jobs.unfinished_since is None


async def test_abandoned_jobs_fail_once() -> None:
    """What a thread returns after that is dropped: its jobs have had their outcome. Only a removal never fails."""
    jobs, outcomes, error = JobQueue(), list[SpoolError | None](), SpoolError("the disk")
    read, remove = Read(0, 10, asyncio.Future()), Remove([ENTRY], asyncio.Future())
    for job in (put(outcomes), read, remove):
        jobs.submit(job)
    jobs.end()
    jobs.abandon(error)
    assert outcomes == [error]
    assert read.done.exception() is error
    assert remove.done.result() is None
    jobs.finish(1, [completion_of(put(outcomes), None)])
    await asyncio.sleep(0)
    assert outcomes == [error]


@pytest.mark.parametrize("what", ["a batch waits", "the thread is busy"])
async def test_a_disk_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Whether the thread has taken the jobs, or is still busy with what no job asked for."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", 0.0)
    jobs = JobQueue()
    assert StallDetector(Path("/spool"), jobs).reason is None
    detector = StallDetector(Path("/spool"), jobs)
    if what == "a batch waits":
        jobs.submit(put([]))
        await asyncio.sleep(0)
    else:
        detector.busy_since = 1.0
    assert detector.reason is not None
    assert detector.reason.startswith("/spool: the disk has not answered for ")
