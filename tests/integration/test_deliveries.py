"""Deliveries that are taken off the socket, with a real broker: what is let go is gone, the rest is given back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from tests.support.dead_letters import ids, move_to_dead_letters

if TYPE_CHECKING:
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

pytestmark = pytest.mark.quick


async def test_all_that_was_let_go_is_gone_at_the_end(
    amqp_url: str, rabbit: Rabbit, workplace: Workplace
) -> None:
    """However many acknowledgements were under way: RabbitMQ forgets those of a channel that is closed too soon."""
    await move_to_dead_letters(rabbit, range(300))
    async with await open_connection(amqp_url, name="test") as connection:
        taking = Deliveries.open(connection, rabbit.names.dead, prefetch=300, acknowledge_every=None)
        async with taking as deliveries:
            left = 300
            while left:
                for delivery in await deliveries.receive():
                    left -= 1
                    if left >= 10:
                        await deliveries.acknowledge(delivery)
    async with asyncio.timeout(90):
        while await rabbit.consumers(rabbit.names.dead):  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(0.02)
    assert [letter.message_id for letter in await workplace.dead()] == ids(range(290, 300))
