"""From the provider's POST to the suppression list, through the real processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from bridge.provider.emission import Emission
from tests.conftest import TOKEN
from tests.support.working import AT

if TYPE_CHECKING:
    from bridge.provider.simulator import Simulator
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
