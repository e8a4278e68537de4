"""A message that fails waits in the delay queues, with its own count; a dependency that fails costs it nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.development.simulator_faults import Faults
from bridge.settings.sections import Worker
from tests.support.commands import bridge
from tests.support.eventually import eventually
from tests.support.working import body_of, bounced, bounces, changed, keeping_busy

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

BACKLOG = range(1, 1 + int(os.environ.get("TEST_OUTAGE_BACKLOG", "1000")))
"""Hard bounces that wait during the outage: TEST_OUTAGE_BACKLOG=10000 for the long version, which takes a minute."""


async def test_a_message_that_waits_carries_its_history_and_nothing_that_routes_it(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """Body, id and headers are those of the event; `CC`, which would copy it, is gone."""
    patient = changed(overrides, worker={"retry_delays": [3600]}, provider={"unknown_grace": 60})
    worker = await _started(processes, patient)
    before = int(time.time() * 1000)
    await workplace.send(body_of("complained", 987654))
    await worker.says("worker.retry", attempt=1)
    async with rabbit.reading(rabbit.names.retry(3600)) as waiting:
        message = await waiting.next()
    assert message.body == body_of("complained", 987654)
    assert message.delivery_mode == 2
    assert message.headers["cloudEvents:id"] == message.message_id
    assert message.headers["cloudEvents:subject"] == "987654"
    assert message.headers["retry-attempt"] == 1
    assert "987654" in str(message.headers["retry-error"])
    assert message.headers["retry-where"] == f"provider@{socket.gethostname()}"
    first = message.headers["retry-first-failure"]
    assert isinstance(first, int)
    assert before <= first <= time.time() * 1000
    assert not {"CC", "BCC", "dead-reason"} & message.headers.keys()


async def test_what_fails_for_one_message_only_is_tried_later_and_then_is_on_the_list(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """The provider answers for others: the message waits, the worker does not, and no breaker opens."""
    simulator.message(1)["to"] = ""
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await workplace.send(*bounces([1]))
    async with keeping_busy(workplace, range(2, 900)):
        said = await worker.says("worker.retry", attempt=2)
        simulator.message(1)["to"] = "recipient1@example.org"
        await worker.says("suppression.added", address="r***@example.org", event_id=said["event_id"])
    assert await workplace.dead() == []


async def test_an_outage_under_a_backlog_costs_no_message_an_attempt(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """500 for everybody, for a while: nothing is moved, nothing is dead, and the list is complete afterwards."""
    simulator.faults = Faults(fail=-1)
    for number in BACKLOG:
        simulator.add_message(f"recipient{number}@example.org", number)
    await workplace.send(*bounces(BACKLOG))
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.pause", times=8, dependency="provider")
    asked = len(simulator.requests)
    await worker.says("worker.pause", times=12, dependency="provider")
    assert len(simulator.requests) - asked <= 6 * Worker().breaker_failures, "a few requests for each pause"
    simulator.faults = Faults()
    await worker.says("worker.resume", dependency="provider")
    await workplace.changes(len(BACKLOG))
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert not [line for line in worker.lines if '"worker.retry"' in line or '"worker.dead_letter"' in line]
    assert await workplace.listed() == bounced(BACKLOG)
    assert await workplace.dead() == []
    assert await workplace.left() == []


async def test_a_message_that_always_fails_is_counted_exactly_through_kills(
    overrides: dict[str, Any],
    workplace: Workplace,
    simulator: Simulator,
    rabbit: Rabbit,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Three workers are killed in the middle of an attempt; each attempt counts once, and a replay undoes it."""
    patient = changed(overrides, provider={"unknown_grace": 3600, "attempts": 1})
    simulator.faults = Faults(unknown_lookups=-1, slow_seconds=60)
    await workplace.send(*bounces([1]))
    attempts: list[int] = []
    for failures in (2, 1, 2):
        worker = await _started(processes, patient)
        await worker.says("worker.retry", times=failures)
        await _killed_in_an_attempt(worker, simulator)
        attempts += _delayed(worker)
    last = await _started(processes, changed(patient, worker={"give_up_after": 0.1}))
    await last.says("worker.dead_letter")
    attempts += _delayed(last)
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) >= 5
    url, prefix = overrides["rabbitmq"]["urls"][0], overrides["rabbitmq"]["prefix"]
    dead = partial(
        bridge, "dead", directory=tmp_path, BRIDGE_RABBITMQ__URLS=url, BRIDGE_RABBITMQ__PREFIX=prefix
    )
    listed = await dead("list", "--json")
    letters = orjson.loads(listed.stdout)["items"]
    assert [(letter["attempts"], letter["reason"]) for letter in letters] == [
        (len(attempts) + 1, "unknown-message")
    ]
    simulator.faults = Faults()
    replayed = await dead("replay", "--all")
    assert replayed.code == 0, replayed.stderr
    await workplace.changes(1)
    assert await rabbit.depth(rabbit.names.dead) == 0
    assert await workplace.listed() == bounced([1])


async def test_a_dead_letter_that_is_put_back_is_tried_for_as_long_as_a_new_event(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """Its first failure was long ago; the time begins with the first after it was put back."""
    headers = {
        "retry-attempt": 50,
        "retry-first-failure": 1_500_000_000_000,
        "dead-at": 1_500_000_000_000,
        "dead-reason": "unknown-message",
    }
    worker = await _started(processes, changed(overrides, provider={"unknown_grace": 3600}))
    await workplace.put(body_of("hard_bounced", 987654), headers=headers)
    await worker.says("worker.retry", attempt=1)
    await worker.says("worker.retry", attempt=2)


@pytest.mark.parametrize("delays", [[0.3], [0.1, 0.3]])
async def test_the_delays_come_one_after_the_other_and_the_last_one_repeats(
    delays: list[float], overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """RabbitMQ hands a message back to the worker's queue, however often it was there before."""
    patient = changed(overrides, provider={"unknown_grace": 3600}, worker={"retry_delays": delays})
    worker = await _started(processes, patient)
    await workplace.send(body_of("hard_bounced", 987654))
    said = [(await worker.says("worker.retry", attempt=number))["delay"] for number in range(1, 6)]
    assert said == (delays + [delays[-1]] * 5)[:5]
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    async with rabbit.channel() as channel:
        for delay in delays:
            await channel.queue_delete(rabbit.names.retry(delay))


async def _started(processes: Processes, overrides: dict[str, Any]) -> Process:
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    return worker


async def _killed_in_an_attempt(worker: Process, simulator: Simulator) -> None:
    """Wait until it has asked the provider, who takes its time, and kill it."""
    simulator.faults.slow = -1
    asked = len(simulator.requests)
    await eventually(lambda: len(simulator.requests) > asked)
    worker.send(signal.SIGKILL)
    await worker.ended()
    simulator.faults.slow = 0


def _delayed(worker: Process) -> list[int]:
    """The attempts after which it has moved a message to a delay queue."""
    said = [orjson.loads(line) for line in worker.lines if line.startswith("{")]
    return [event["attempt"] for event in said if event["action"] == "worker.retry"]
