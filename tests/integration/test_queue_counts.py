"""How many messages and consumers a queue has, on a RabbitMQ that is too busy to say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika

from bridge.broker.queue_counts import queue_counts

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

BUSY = """(fun() ->
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
    Leader = amqqueue:get_pid(Queue),
    sys:suspend(Leader),
    spawn(fun() -> timer:sleep(400), sys:resume(Leader) end)
end)()."""
"""Longer than RabbitMQ waits for the leader of a quorum queue before it answers that there is nothing in the queue."""


async def test_a_queue_whose_leader_is_busy_is_not_empty(
    rabbit: Rabbit, control: Control, prefix: str
) -> None:
    """RabbitMQ says so, and it is asked again: nobody is told that no worker is there, or that nothing waits."""
    queue = f"{prefix}busy"
    async with rabbit.channel() as channel:
        declared = await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        await channel.set_qos(prefetch_count=1)
        for _ in range(3):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await declared.consume(arrived.put)
        await arrived.get()
        await control.evaluate(BUSY.format(queue=queue))
        assert await queue_counts(rabbit.connection, queue) == (2, 1)
        await channel.queue_delete(queue)
