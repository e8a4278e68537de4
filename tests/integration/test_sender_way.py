"""The sender's way, through the real processes: announce, send, bounce, and the check says no."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import aiohttp

from bridge.development.emission import Emission
from tests.conftest import TOKEN
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.working import AT, changed

if TYPE_CHECKING:
    from bridge.development.simulator import Simulator
    from tests.support.processes import Process, Processes
    from tests.support.working import Workplace

SENDER_TOKEN = "the-token-of-a-sender"
BOUNCED, COMPLAINED, DELIVERED = "jane@example.org", "joe@example.org", "jill@example.org"


async def test_who_has_bounced_is_not_written_to_again_and_the_provider_is_never_asked(
    processes: Processes, overrides: dict[str, Any], simulator: Simulator, workplace: Workplace
) -> None:
    """One set of processes: the API, which takes the announcement and answers the check; the receiver; the worker."""
    api = {"port": 0, "tokens": [f"shop:check+write:{SENDER_TOKEN}"]}
    started = [
        await processes.start(role, overrides=changed(overrides, api=api))
        for role in ("receiver", "worker", "api")
    ]
    receiver, _, answering = started
    webhook_port = (await receiver.says("receiver.started"))["port"]
    api_port = (await answering.says("api.started"))["port"]
    await receiver.says("broker.connected")
    headers = {"Authorization": f"Bearer {SENDER_TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{api_port}", headers=headers) as sender:
        assert await allowed(sender) == {BOUNCED: True, COMPLAINED: True, DELIVERED: True}
        messages = [
            {"id": number, "to": address}
            for number, address in enumerate((BOUNCED, COMPLAINED, DELIVERED), start=1)
        ]
        async with sender.post("/v1/messages", json={"messages": messages}) as answer:
            assert answer.ok, await answer.text()
        simulator.webhook_url = f"http://127.0.0.1:{webhook_port}/webhooks/msndr/{TOKEN}"
        sent = [Emission("hard_bounced", 1, AT), Emission("complained", 2, AT), Emission("delivered", 3, AT)]
        assert await simulator.emit_many(sent, shuffle=None, repeat=2) == [200] * 6
        await workplace.changes(2)
        assert await allowed(sender) == {BOUNCED: False, COMPLAINED: False, DELIVERED: True}
        await becomes_fresh(sender)
    assert not simulator.requests
    await end_in_order(started)


async def allowed(sender: aiohttp.ClientSession) -> dict[str, bool]:
    """What the sender asks before each mailing."""
    document = {"addresses": [BOUNCED, COMPLAINED, DELIVERED]}
    async with sender.post("/v1/suppressions/check", json=document) as answer:
        assert answer.status == 200
        return {one["address"]: one["allowed"] for one in (await answer.json())["results"]}


async def becomes_fresh(sender: aiohttp.ClientSession) -> None:
    """The answers say how fresh the list is, once the worker has reported."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with sender.post("/v1/suppressions/check", json={"addresses": [BOUNCED]}) as answer:
                if (await answer.json())["fresh_as_of"] is not None:
                    return
            await asyncio.sleep(0.1)


async def end_in_order(started: list[Process]) -> None:
    for process in started:
        process.send(signal.SIGTERM)
    for process in started:
        assert await process.ended() == 0
