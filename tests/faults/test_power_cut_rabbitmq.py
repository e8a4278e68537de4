"""The power fails under a RabbitMQ node: what a confirm is worth in a quorum queue, and in a stream alone."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aio_pika
import pytest
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity

from bridge.amqp.connection import open_connection
from bridge.development.private_node import PrivateNode
from tests.support.disk.mounting import FUSE_MISSING, forgetful_disk
from tests.support.private import names

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

pytestmark = pytest.mark.skipif(FUSE_MISSING is not None, reason=str(FUSE_MISSING))

MESSAGES = 400
QUEUES = ("quorum", "stream")
_PATIENCE_SECONDS = 90.0
_SURE_SECONDS = 2.0
"""What a stream has not sent by then it does not have."""
_LOOK_EVERY_SECONDS = 0.2
_WRITTEN_SECONDS = 2.0
"""By then RabbitMQ has written its tables of queues, which it keeps in its own memory for a while; nothing tells."""


async def test_a_quorum_queue_keeps_what_it_confirmed_and_a_stream_does_not() -> None:
    """Nothing is kept that was not fsynced. A quorum queue has fsynced before it confirms, a stream never does."""
    with tempfile.TemporaryDirectory(prefix="bridge-power-") as folder:
        async with forgetful_disk(Path(folder), rule="journal") as disk:
            node = PrivateNode(Path(folder, "node"))
            try:
                await node.start()
                await _declare(node)
                await asyncio.sleep(_WRITTEN_SECONDS)
                await disk.sync()
                await _publish(node)
                await node.kill()
                await disk.cut(keep_nothing=True)
                await node.start()
                assert await _bodies(node, "quorum", MESSAGES) == set(range(MESSAGES))
                in_stream: set[int] = set()
                with suppress(AMQPError, TimeoutError):  # it may not even be readable any more
                    in_stream = await _bodies(node, "stream", 1)
                assert in_stream == set()
            finally:
                await node.kill()
                node.stop_port_mapper()


async def test_without_a_journal_a_node_loses_all_that_it_has_made() -> None:
    """Under `posix` RabbitMQ does not survive: it fsyncs its files, and not the folders that they are in."""
    with tempfile.TemporaryDirectory(prefix="bridge-power-") as folder:
        async with forgetful_disk(Path(folder), rule="posix") as disk:
            node = PrivateNode(Path(folder, "node"))
            try:
                await node.start()
                await _declare(node)
                await _publish(node)
                await node.kill()
                await disk.cut(keep_nothing=True)
                assert "data" not in names(Path(folder, "node"))
            finally:
                node.stop_port_mapper()


async def _declare(node: PrivateNode) -> None:
    async with await open_connection(node.url, name="power cut") as connection:
        channel = await connection.channel()
        for kind in QUEUES:
            queue = await channel.declare_queue(kind, durable=True, arguments={"x-queue-type": kind})
            await queue.bind("amq.fanout")


async def _publish(node: PrivateNode) -> None:
    """Returns when each is confirmed, by both queues."""
    async with await open_connection(node.url, name="power cut") as connection:
        exchange = await (await connection.channel()).get_exchange("amq.fanout")
        for first in range(0, MESSAGES, 50):
            bodies = (b"%d" % number for number in range(first, first + 50))
            messages = [aio_pika.Message(body, delivery_mode=2) for body in bodies]
            await asyncio.gather(*(exchange.publish(message, "") for message in messages))


async def _bodies(node: PrivateNode, name: str, count: int) -> set[int]:
    """What is in a queue: so many, or fewer if no more come."""
    found: set[int] = set()
    enough = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        found.add(int(message.body))
        await message.ack()
        if len(found) == count:
            enough.set()

    async with await open_connection(node.url, name="power cut") as connection:
        queue = await _queue(connection, name)
        await queue.consume(take, arguments={"x-stream-offset": "first"} if name == "stream" else {})
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS if name == "quorum" else _SURE_SECONDS):
                await enough.wait()
    return found


async def _queue(connection: AbstractConnection, name: str) -> AbstractQueue:
    """A node that has just started does not know its streams yet."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            channel = await connection.channel()
            try:
                await channel.set_qos(100)
                return await channel.get_queue(name)
            except ChannelNotFoundEntity:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
