"""Several workers at once, as real processes: started, stopped, and what their logs say."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes


async def started(
    processes: Processes, overrides: dict[str, Any], count: int, *, patience: float
) -> list[Process]:
    """So many workers that have begun to work. Args: `patience`: seconds for each."""
    workers = [await processes.start("worker", overrides=overrides) for _ in range(count)]
    for worker in workers:
        await worker.says("worker.started", patience=patience)
    return workers


async def stopped(workers: list[Process]) -> None:
    """All end in order after SIGTERM."""
    for worker in workers:
        worker.send(signal.SIGTERM)
    assert [await worker.ended() for worker in workers] == [0] * len(workers)


async def first_to_say(workers: list[Process], action: str) -> Process:
    """The one in whose log this action stands, once it does."""

    def said() -> list[Process]:
        return [worker for worker in workers if lines_with([worker], f'"{action}"')]

    await eventually(lambda: bool(said()))
    return said()[0]


def lines_with(workers: list[Process], part: str) -> int:
    """How many lines of their logs have this in them."""
    return sum(part in line for worker in workers for line in worker.lines)
