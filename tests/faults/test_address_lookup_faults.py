"""Look-ups that fail for their own message cost the others nothing: not their place on the list, nor the worker's health."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.ports import free_port
from tests.support.working import bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.processes import Processes
    from tests.support.working import Workplace

GOOD = 100
UNUSABLE: list[dict[str, Any]] = [
    {"text": '{"id": ID, "to": null}'},
    {"text": '{"id": ID, "to": ["a@example.org"]}'},
    {"text": '{"id": 99, "to": "a@example.org"}'},
    {"text": "<html>Maintenance</html>", "content_type": "text/html"},
    {"text": "[]"},
    {"status": 204},
    {"status": 302, "headers": {"Location": "/elsewhere"}},
    {"status": 400},
    {"status": 409, "text": "{}"},
    {"status": 410},
]
"""Answers that came, and say nothing of the address."""
FAILING: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 502},
    {"status": 503, "headers": {"Retry-After": "60"}},
]


class Scene:
    """A provider that answers so for the ids from 1 on, and well for the rest; and settings with long pauses."""

    def __init__(self, overrides: dict[str, Any], kinds: list[dict[str, Any]]) -> None:
        self.asked: list[str] = []
        self.overrides = overrides
        self._kinds = kinds

    @classmethod
    @asynccontextmanager
    async def of(cls, overrides: dict[str, Any], kinds: list[dict[str, Any]]) -> AsyncIterator[Scene]:
        """What is bad is put off for an hour, and so is everything as long as a breaker is open."""
        scene = cls(overrides, kinds)
        app = web.Application()
        app.router.add_get("/v1/email/messages/{id}", scene._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            scene.overrides = changed(
                overrides,
                provider={"base_url": base_url, "rate": 1000},
                worker={"pause_max": 3600, "retry_delays": [3600]},
            )
            yield scene
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        self.asked.append(number)
        if int(number) <= len(self._kinds):
            kind = self._kinds[int(number) - 1]
            return web.Response(**{**kind, "text": kind.get("text", "").replace("ID", number)})
        return web.json_response({"id": int(number), "to": f"recipient{number}@example.org"})


@pytest.mark.parametrize("count", [6, 26])
async def test_a_good_one_passes_those_whose_answer_cannot_be_used(
    count: int, overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """Each of them waits in the delay queue with its count, after one call; nobody pauses."""
    kinds = (UNUSABLE * 3)[:count]
    async with Scene.of(overrides, kinds) as scene:
        worker = await processes.start("worker", overrides=scene.overrides)
        await worker.says("worker.started")
        await workplace.send(*bounces(range(1, count + 1)))
        for number in range(1, count + 1):
            said = await worker.says("worker.retry", times=number)
            assert (said["reason"], said["attempt"]) == ("unreadable-answer", 1)
        await workplace.send(*bounces([GOOD]))
        await workplace.changes(1)
    assert sorted(scene.asked, key=int) == [str(number) for number in [*range(1, count + 1), GOOD]]
    assert not [line for line in worker.lines if '"worker.pause"' in line]


async def test_a_good_one_passes_those_at_which_the_server_fails(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """Nothing else comes, so that it looks like an outage, and the pauses are long: the good one is asked for first."""
    async with Scene.of(overrides, FAILING * 9) as scene:
        worker = await processes.start("worker", overrides=scene.overrides)
        await worker.says("worker.started")
        await workplace.send(*bounces(range(1, 27)))
        await worker.says("worker.pause", dependency="provider", attempt=3)
        await workplace.send(*bounces([GOOD]))
        await workplace.changes(1)


@pytest.mark.parametrize("kind", [UNUSABLE[0], FAILING[0]])
async def test_one_bad_message_alone_leaves_the_worker_ready(
    kind: dict[str, Any], overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """It waits in the delay queue, and there is nothing left that could say how the provider is."""
    async with Scene.of(overrides, [kind]) as scene:
        port = free_port()
        worker = await processes.start("worker", overrides=changed(scene.overrides, health={"port": port}))
        await worker.says("worker.started")
        await workplace.send(*bounces([1]))
        await worker.says("worker.retry", attempt=1)
        async with aiohttp.ClientSession() as http, asyncio.timeout(90):
            answer = await http.get(f"http://127.0.0.1:{port}/readyz")
            assert (answer.status, (await answer.json())["provider"]["state"]) == (200, "closed")
    assert not [line for line in worker.lines if '"worker.pause"' in line]


async def test_one_message_alone_waits_for_a_provider_that_is_not_there(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """Nobody listens: that costs it no attempt, and the worker says what it waits for."""
    absent = changed(overrides, provider={"base_url": "http://127.0.0.1:1/v1"})
    worker = await processes.start("worker", overrides=absent)
    await worker.says("worker.started")
    await workplace.send(*bounces([1]))
    said = await worker.says("worker.pause", dependency="provider", attempt=6)
    assert "cannot be reached" in said["error"]
    assert not [line for line in worker.lines if '"worker.retry"' in line]
