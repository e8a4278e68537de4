"""A worker that is up and gets nowhere says so, and `/livez` has it started anew; one that waits does not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge.development.simulator_faults import Faults
from bridge.suppression.store import Store
from tests.support import stores
from tests.support.ports import free_port
from tests.support.working import bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bridge.development.simulator import Simulator
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

    Answer = tuple[int, dict[str, Any]]
    Ask = Callable[[str], Awaitable[Answer]]

LONGER = 3.5
"""Seconds, for a worker that is not to be stuck: more than a busy machine takes for a step, or stands still."""
ALIVE = (200, {"status": "alive"})
FOREVER = (
    "CREATE VIEW forever AS WITH RECURSIVE more(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM more) SELECT x FROM more",
    "CREATE TRIGGER hang BEFORE INSERT ON changes BEGIN SELECT count(*) FROM forever; END",
)
"""SQLite's thread does not come back from a write, whatever happens to those who wait for it."""


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Stuck after half a second, on a port that is known beforehand."""
    return changed(overrides, worker={"stuck_after": 0.5}, health={"port": free_port()})


async def test_a_worker_of_whose_messages_none_gets_any_further_is_stuck_until_one_does(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """Be it a single one: said with an action, counted, told by `/livez`."""
    simulator.faults = Faults(slow=1, slow_seconds=6)
    slow = changed(overrides, provider={"timeout": 60})
    async with _started(processes, slow) as (worker, ask):
        await _becomes_alive(ask)
        await workplace.send(*bounces([1]))
        said = await worker.says("worker.stuck", component="deliveries")
        assert said["level"] == "error"
        status, body = await ask("/livez")
        assert (status, body["status"]) == (503, "stuck")
        assert "not acknowledged" in body["reason"]
        _, metrics = await ask("/metrics")
        assert 'bridge_worker_stuck_total{component="deliveries"} 1.0' in metrics["text"]
        await workplace.changes(1)
        await worker.says("worker.unstuck", component="deliveries")
        await _becomes_alive(ask)


async def test_a_worker_whose_list_does_not_answer_is_not_ready_and_then_stuck(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """A write that never returns, as on a disk that hangs; one message waits for it, and no breaker opens."""
    async with _started(processes, overrides) as (worker, ask):
        await stores.execute(overrides["suppression"]["database_url"], *FOREVER)
        async with asyncio.timeout(90):  # where half a second counts as hanging: as in `_becomes_alive`
            while (await ask("/readyz"))[0] != 200:
                pass
        await workplace.send(*bounces([1]))
        for what in ("database", "deliveries"):
            await worker.says("worker.stuck", component=what)
        async with asyncio.timeout(90):  # what was told may have been a slow answer before
            while (ready := await ask("/readyz"))[0] != 503:
                pass
        assert ready[1]["database"]["state"] == "closed"
        assert "not been answered" in ready[1]["database"]["reason"]
        async with asyncio.timeout(90):
            status, body = await ask("/livez")
            while "database" not in body.get("reason", ""):  # a slow answer before may have been told as well
                status, body = await ask("/livez")
        assert status == 503


async def test_a_worker_that_waits_for_the_rate_is_not_stuck(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """One call in four seconds, and the prefetch is full of messages that the provider does not know: it can do no more."""
    slow = changed(
        overrides,
        provider={"rate": 0.25, "attempts": 1, "unknown_grace": 0},
        worker={"prefetch": 20, "stuck_after": LONGER},
    )
    async with _started(processes, slow) as (worker, ask):
        await workplace.send(*bounces(range(2001, 2041)))
        await worker.says("worker.dead_letter", times=2)
        assert await ask("/livez") == ALIVE
    assert not [line for line in worker.lines if '"worker.stuck"' in line]


async def test_a_worker_that_waits_for_a_dependency_is_not_stuck(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, processes: Processes
) -> None:
    """With full hands, too: `/livez` stays as it is, `/readyz` and the metrics tell what it waits for."""
    simulator.faults = Faults(fail=-1)
    waiting = changed(overrides, worker={"prefetch": 1, "breaker_failures": 1, "stuck_after": LONGER})
    async with _started(processes, waiting) as (worker, ask):
        status, body = await ask("/readyz")
        assert (status, body["provider"]["state"], body["database"]["state"]) == (200, "closed", "closed")
        await workplace.send(*bounces([1, 2]))
        await worker.says("worker.pause", times=14, dependency="provider")  # for longer than LONGER
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


async def test_a_relay_whose_changes_are_refused_is_not_stuck(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """A subscriber's full queue refuses them, which no restart of ours can mend; RabbitMQ answers each time."""
    url = overrides["suppression"]["database_url"]
    async with rabbit.channel() as channel:
        full = await channel.declare_queue(
            exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(rabbit.names.changes, "added")
        async with Store.open(url) as store:
            await store.add("first@example.org", actor="jo", note="fills the queue")
            await store.add("jane@example.org", actor="jo", note="is refused")
        patient = changed(overrides, worker={"stuck_after": LONGER})
        async with _started(processes, patient) as (worker, ask):
            await worker.says("relay.waiting", times=5)
            assert await ask("/livez") == ALIVE
            await full.unbind(rabbit.names.changes, "added")
            await workplace.changes(2)
        assert not [line for line in worker.lines if '"worker.stuck"' in line]


async def test_a_consumer_whose_queue_is_gone_is_not_stuck(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """It may not declare it, and RabbitMQ says so each time: when it is there again, so is the consumer."""
    checking = changed(
        overrides, rabbitmq={"declare": "never", "reconnect_max": 0.4}, worker={"stuck_after": LONGER}
    )
    async with _started(processes, checking) as (worker, ask), rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
        await worker.says("broker.retry", use="consume", times=20)  # for longer than LONGER
        status, body = await ask("/readyz")
        assert (status, body["consume"]["state"]) == (503, "down")
        assert await ask("/livez") == ALIVE
        await workplace.declare()
        await workplace.send(*bounces([1]))
        await workplace.changes(1)
    assert not [line for line in worker.lines if '"worker.stuck"' in line]


async def _becomes_alive(ask: Ask) -> None:
    """Where half a second counts as stuck, something else may be that for a moment on a busy machine."""
    async with asyncio.timeout(90):
        while await ask("/livez") != ALIVE:
            pass


@asynccontextmanager
async def _started(processes: Processes, overrides: dict[str, Any]) -> AsyncIterator[tuple[Process, Ask]]:
    """A worker, and a way to ask it for its health; `/metrics` answers `text`."""
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await worker.says("broker.connected", use="publish")
    async with aiohttp.ClientSession() as http:

        async def ask(path: str) -> Answer:
            async with (
                asyncio.timeout(90),
                http.get(f"http://127.0.0.1:{overrides['health']['port']}{path}") as answer,
            ):
                if path == "/metrics":
                    return answer.status, {"text": await answer.text()}
                return answer.status, await answer.json()

        yield worker, ask
