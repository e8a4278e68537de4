"""A worker that is up and gets nowhere says so, and `/livez` has it started anew; one that waits does not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge import settings as knobs
from bridge.provider.faults import Faults
from bridge.suppression.store import Store
from tests.support.working import bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bridge.provider.simulator import Simulator
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

    Answer = tuple[int, dict[str, Any]]
    Ask = Callable[[str], Awaitable[Answer]]

ALIVE = (200, {"status": "alive"})


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Stuck after half a second, on a port that is known beforehand."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return changed(overrides, worker={"stuck_after": 0.5}, health={"port": port})


async def test_a_worker_whose_hands_are_full_and_idle_is_stuck_until_it_gets_on(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """At the prefetch limit nothing is acknowledged: said with an action, counted, told by `/livez`."""
    simulator.faults = Faults(slow=1, slow_seconds=3)
    slow = changed(overrides, worker={"prefetch": 1}, provider={"timeout": 60})
    async with _started(processes, slow) as (worker, ask):
        assert await ask("/livez") == ALIVE
        await workplace.send(*bounces([1, 2]))
        said = await worker.says("worker.stuck", what="deliveries")
        assert said["level"] == "error"
        status, body = await ask("/livez")
        assert (status, body["status"]) == (503, "stuck")
        assert "worker.prefetch" in body["reason"]
        _, metrics = await ask("/metrics")
        assert 'bridge_worker_stuck_total{what="deliveries"} 1.0' in metrics["text"]
        await workplace.changes(2)
        await worker.says("worker.unstuck", what="deliveries")
        assert await ask("/livez") == ALIVE


async def test_a_worker_that_waits_for_a_dependency_is_not_stuck(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """With full hands, too: `/livez` stays as it is, `/readyz` and the metrics tell what it waits for."""
    simulator.faults = Faults(fail=-1)
    waiting = changed(overrides, worker={"prefetch": 1, "breaker_failures": 1})
    async with _started(processes, waiting) as (worker, ask):
        status, body = await ask("/readyz")
        assert (status, body["provider"]["state"], body["database"]["state"]) == (200, "closed", "closed")
        await workplace.send(*bounces([1, 2]))
        await worker.says("worker.pause", times=8, dependency="provider")
        assert await ask("/livez") == ALIVE
        status, body = await ask("/readyz")
        assert status == 503
        assert body["provider"]["state"] in {"open", "half-open"}
        assert "answered 500" in body["provider"]["reason"]
        _, metrics = await ask("/metrics")
        assert 'bridge_breaker_state{dependency="database"} 0.0' in metrics["text"]
        assert 'bridge_breaker_state{dependency="provider"} 0.0' not in metrics["text"]
        simulator.faults = Faults()
        await workplace.changes(2)
        assert not [line for line in worker.lines if '"worker.stuck"' in line]
        status, _ = await ask("/readyz")
        assert status == 200


async def test_a_relay_that_publishes_nothing_although_there_are_changes_is_stuck(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """A subscriber's full queue refuses them; when it takes them again, the relay gets on by itself."""
    url = overrides["suppression"]["database_url"]
    async with rabbit.channel() as channel:
        full = await channel.declare_queue(
            exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(rabbit.names.changes, "added")
        async with Store.open(url) as store:
            await store.add("first@example.org", actor="jo", note="fills the queue")
            await store.add("jane@example.org", actor="jo", note="is refused")
        async with _started(processes, overrides) as (worker, ask):
            await worker.says("worker.stuck", what="relay")
            status, body = await ask("/livez")
            assert status == 503
            assert "changes" in body["reason"]
            await full.unbind(rabbit.names.changes, "added")
            await workplace.changes(2)
            await worker.says("worker.unstuck", what="relay")
            assert await ask("/livez") == ALIVE


async def test_a_consumer_that_is_cancelled_and_not_back_is_stuck(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """Its queue is gone, and it may not declare it: when it is there again, so is the consumer."""
    checking = changed(overrides, rabbitmq={"declare": "never"})
    assert knobs.load(overrides=checking)
    async with _started(processes, checking) as (worker, ask), rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
        await worker.says("worker.stuck", what="consumer")
        status, body = await ask("/livez")
        assert (status, body["status"]) == (503, "stuck")
        await workplace.declare()
        await worker.says("worker.unstuck", what="consumer")
        assert await ask("/livez") == ALIVE


@asynccontextmanager
async def _started(processes: Processes, overrides: dict[str, Any]) -> AsyncIterator[tuple[Process, Ask]]:
    """A worker, and a way to ask it for its health; `/metrics` answers `text`."""
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await worker.says("broker.connected", use="publish")
    async with aiohttp.ClientSession() as http:

        async def ask(path: str) -> Answer:
            async with (
                asyncio.timeout(20),
                http.get(f"http://127.0.0.1:{overrides['health']['port']}{path}") as answer,
            ):
                if path == "/metrics":
                    return answer.status, {"text": await answer.text()}
                return answer.status, await answer.json()

        yield worker, ask
