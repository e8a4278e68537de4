"""A service that comes to the running stack: one command, and it has its first event; nothing is started anew for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aio_pika
import aiohttp
from aiormq.exceptions import AMQPError

from tests.programs.stack.engine import EngineError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel

    from tests.programs.stack.stack import Stack

_SERVICE: Final = "crm"
"""The user of the example, and its queue."""
_EVENT: Final = b'{"message":{"id":987654321},"event":{"name":"opened","timestamp":1539062173}}'
_ROLES: Final = ("receiver", "worker", "api", "rabbitmq")
_PATIENCE_SECONDS: Final = 30.0


async def subscribed(stack: Stack) -> list[str]:
    """With its own user, over the published port: its queue, and what it rejects in its own dead letters."""
    before = await _started(stack)
    await stack.bridge("subscribers", "add", _SERVICE, "--events", "opened")
    try:
        wrong = await _consumed(stack)
    finally:
        await stack.bridge("subscribers", "remove", _SERVICE, "--yes")
    if await _started(stack) != before:
        wrong.append("a container was started anew")
    return wrong


async def _consumed(stack: Stack) -> list[str]:
    async with (
        await aio_pika.connect(await stack.url(_SERVICE)) as connection,
        connection.channel() as channel,
    ):
        await _post(stack)
        try:
            event = await _next(channel, _SERVICE)
            await event.reject(requeue=False)
            dead = await _next(channel, f"{_SERVICE}.dead")
            await dead.ack()
        except TimeoutError:
            return ["its event, or its dead letter, did not come"]
        except AMQPError as error:
            return [f"RabbitMQ refuses its user: {error}"]
    bodies = (event.body, dead.body)
    return [] if bodies == (_EVENT, _EVENT) else [f"what came is {bodies}"]


async def _next(channel: AbstractChannel, queue: str) -> aio_pika.abc.AbstractIncomingMessage:
    """The next message, for which it declares nothing."""
    arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    tag = await (await channel.get_queue(queue, ensure=False)).consume(arrived.put)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await arrived.get()
    finally:
        await (await channel.get_queue(queue, ensure=False)).cancel(tag)


async def _post(stack: Stack) -> None:
    address = (await stack.engine.compose("port", "receiver", "8080")).strip()
    token = stack.secret("receiver_tokens").partition(",")[0]
    url = f"http://{address}/webhooks/msndr/{token}"
    try:
        async with aiohttp.ClientSession() as session, session.post(url, data=_EVENT) as answer:
            answer.raise_for_status()
    except aiohttp.ClientError as error:
        raise EngineError(f"the receiver at {address} does not take an event: {error}") from None


async def _started(stack: Stack) -> dict[str, str]:
    """Container -> when it was started."""
    found = await stack.inspect(one.id for one in await stack.containers(*_ROLES))
    return {one["Id"]: one["State"]["StartedAt"] for one in found}
