"""The provider fails while the worker has unacknowledged events: the list is complete and exact, nothing is given up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from bridge.development.simulator_faults import Faults
from bridge.settings.loading import load_settings
from bridge.settings.sections import Worker
from tests.support.working import bounced, bounces, changed, working

if TYPE_CHECKING:
    from bridge.development.simulator import Simulator
    from tests.support.processes import Processes
    from tests.support.working import Workplace

EVENTS = range(1, 31)

TRANSIENT = {
    "429 with Retry-After": Faults(throttle=5, retry_after="0.2"),
    "429 without Retry-After": Faults(throttle=40, retry_after=""),
    "500": Faults(fail=50),
    "slower than provider.timeout": Faults(slow=25, slow_seconds=20),
    "reset": Faults(reset=50),
    "maintenance page": Faults(garbage=50),
    "404 for a while": Faults(unknown_lookups=2),
    "wrong token": Faults(unauthorized=50),
    "all at once": Faults(
        throttle=5, retry_after="0.1", fail=20, reset=20, unauthorized=20, unknown_lookups=1
    ),
}


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_passing_fault_costs_nothing(
    fault: str, overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """All events are on the list at the end, each once; none is dead, none left in the queue."""
    simulator.faults = TRANSIENT[fault]
    # A second look-up that comes late, on a busy machine, is not the last.
    patient = {"timeout": 0.4, "attempts": 2, "unknown_grace": 60}
    settings = load_settings(overrides=changed(overrides, provider=patient))
    async with working(settings):
        await workplace.send(*bounces(EVENTS))
        await workplace.changes(len(EVENTS))
    assert await workplace.listed() == bounced(EVENTS)
    assert await workplace.dead() == []
    assert await workplace.left() == []
    assert len(simulator.requests) > len(EVENTS), "the fault was met"


async def test_those_who_wait_for_the_rate_do_not_call_once_the_breaker_is_open(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """A hundred unacknowledged events, ten calls a second: no more than these ten, and a few different ones after each pause."""
    simulator.faults = Faults(fail=-1)
    await workplace.send(*bounces(range(1, 101)))
    worker = await processes.start("worker", overrides=changed(overrides, provider={"rate": 10}))
    await worker.says("worker.pause", times=6, dependency="provider")
    a_few = Worker().breaker_failures
    assert len(simulator.requests) <= 10 + 6 * a_few + 1, (
        "the next probe may be on its way when the sixth pause is read"
    )
    assert await workplace.dead() == []


async def test_retry_after_holds_back_every_call(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """After a 429 nobody asks again before the time it names."""
    simulator.faults = Faults(throttle=1, retry_after="1")
    async with working(load_settings(overrides=changed(overrides, provider={"rate": 1}))):
        await workplace.send(*bounces([1, 2]))
        await workplace.changes(2)
    refused, *later = (request.at for request in simulator.requests)
    assert all(at - refused >= 1 for at in later)


async def test_a_wrong_token_pauses_the_worker_until_it_is_right(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """The worker says what is wrong and waits: no message is to blame, so none is given up."""
    right, simulator.token = simulator.token, "another-token"
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await workplace.send(*bounces(EVENTS))
    said = await worker.says("worker.pause", times=3, dependency="provider")
    assert "provider.api_token" in said["error"]
    assert await workplace.listed() == {}
    simulator.token = right
    await workplace.changes(len(EVENTS))
    assert await workplace.listed() == bounced(EVENTS)
    assert await workplace.dead() == []


async def test_the_providers_outage_does_not_use_up_the_grace_of_an_unknown_message(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """The grace for a 404 begins with the first 404, not with a call that failed long before."""
    simulator.faults = Faults(reset=-1)
    provider = {"unknown_grace": 0.2, "attempts": 1}
    worker = await processes.start("worker", overrides=changed(overrides, provider=provider))
    await worker.says("worker.started")
    await workplace.send(*bounces([1]))
    failing = time.monotonic()
    attempt = 2
    while time.monotonic() - failing < 2 * provider["unknown_grace"]:
        await worker.says("worker.pause", attempt=attempt)
        attempt += 1
    simulator.faults = Faults(unknown_lookups=1)
    await workplace.changes(1)
    assert await workplace.dead() == []


async def test_a_place_in_the_queue_for_the_rate_does_not_use_up_the_grace(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """In a burst that the rate stretches beyond `unknown_grace`, the last still gets its second look-up."""
    simulator.faults = Faults(unknown_lookups=1)
    some = range(1, 16)
    settings = load_settings(overrides=changed(overrides, provider={"rate": 10, "unknown_grace": 0.2}))
    async with working(settings):
        await workplace.send(*bounces(some))
        await workplace.changes(len(some))
    assert await workplace.listed() == bounced(some)
    assert await workplace.dead() == []
