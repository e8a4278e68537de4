"""The receiver as a real process: from a POST to the queue, and its orderly end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.conftest import TOKEN

if TYPE_CHECKING:
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

BODY = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173, "data": {"url": "https://example.com"}}}'


async def test_an_event_that_was_answered_200_is_in_the_queue_with_the_providers_bytes(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """The provider's documented body is confirmed, and arrives untouched under its event's name."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.listening(rabbit.names.events, "clicked") as clicked, aiohttp.ClientSession() as http:
        async with http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", data=BODY) as answer:
            assert answer.status == 200
            assert (await answer.json())["durability"] == "confirmed"
        assert (await clicked.next()).body == BODY
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0


async def test_sigterm_lets_running_requests_end_with_their_answer(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Every POST in flight at SIGTERM is answered, and what was answered 200 is in the queue."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.listening(rabbit.names.events, "#") as everything, aiohttp.ClientSession() as http:

        async def post(number: int) -> str | None:
            body = {"message": {"id": number}, "event": {"name": "opened", "timestamp": number}}
            try:
                async with http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", json=body) as answer:
                    return str((await answer.json())["id"]) if answer.status == 200 else None
            except aiohttp.ClientConnectionError:
                return None

        posts = [asyncio.create_task(post(number)) for number in range(500)]
        await everything.next()
        receiver.send(signal.SIGTERM)
        accepted = {event_id for event_id in await asyncio.gather(*posts) if event_id}
        assert await receiver.ended() == 0
        arrived = {(await everything.next()).message_id for _ in range(len(accepted) - 1)}
        assert len(accepted - arrived) <= 1, "one was taken to see that posting had begun"
