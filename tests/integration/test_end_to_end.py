"""From the provider's POST to the suppression list, through the real processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import aiohttp

from bridge.development.emission import Emission
from tests.conftest import TOKEN
from tests.support.spellings import SPELLINGS
from tests.support.working import AT, bounced

if TYPE_CHECKING:
    from bridge.development.simulator import Simulator
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

NAMES = (
    "delivered", "opened", "clicked", "unsubscribed", "complined", "complained", "skipped", "soft_bounced",
    "hard_bounced",
)  # fmt: skip


async def test_exactly_the_bounced_and_the_complaining_are_on_the_list(
    processes: Processes,
    overrides: dict[str, Any],
    simulator: Simulator,
    workplace: Workplace,
    rabbit: Rabbit,
) -> None:
    """All eight events, both spellings, each for messages of its own, three times and in a random order."""
    receiver = await processes.start("receiver", overrides=overrides)
    worker = await processes.start("worker", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    simulator.webhook_url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
    messages = {name: range(1 + 10 * number, 6 + 10 * number) for number, name in enumerate(NAMES)}
    emissions = [Emission(name, message, AT) for name, some in messages.items() for message in some]
    statuses = await simulator.emit_many(emissions, shuffle=20181009, repeat=3)
    assert statuses == [200] * len(emissions) * 3
    await workplace.changes(15)
    for process in (receiver, worker):
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
    expected = {(f"recipient{message}@example.org", "hard_bounce"): 1 for message in messages["hard_bounced"]}
    for name in ("complined", "complained"):
        expected |= {(f"recipient{message}@example.org", "complaint"): 1 for message in messages[name]}
    assert await workplace.listed() == expected
    assert await workplace.left() == []
    assert await workplace.dead() == []
    assert await rabbit.depth(rabbit.names.unrouted) == 0
    assert await rabbit.depth(rabbit.names.malformed) == 0


async def test_a_hard_bounce_is_on_the_list_however_it_is_spelt(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit
) -> None:
    """What says without a doubt who bounced is not kept from the list by a small thing; its bytes stay as they came."""
    async with rabbit.listening(rabbit.names.events, "#") as heard:
        receiver = await processes.start("receiver", overrides=overrides)
        worker = await processes.start("worker", overrides=overrides)
        port = (await receiver.says("receiver.started"))["port"]
        await receiver.says("broker.connected")
        bodies = [spelt(number) for number, spelt in enumerate(SPELLINGS.values(), start=1)]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            for body in bodies:
                async with http.post(f"/webhooks/msndr/{TOKEN}", data=body) as answer:
                    assert (answer.status, (await answer.json())["status"]) == (200, "accepted"), body
        messages = await heard.take(len(bodies))
        await workplace.changes(len(bodies))
        for process in (receiver, worker):
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
    assert {message.body for message in messages} == set(bodies)
    assert {message.routing_key for message in messages} == {"hard_bounced"}
    assert await workplace.listed() == bounced(range(1, 1 + len(bodies)))
    assert await rabbit.depth(rabbit.names.malformed) == 0
