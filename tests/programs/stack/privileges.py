"""What RabbitMQ's users of the stack must not do, tried."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aio_pika
from aiormq.exceptions import AMQPError, ChannelAccessRefused
from yarl import URL

from bridge.amqp.connection import open_connection
from bridge.broker.topology import Names
from tests.programs.stack.arrivals import EVENTS_QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractChannel

    from tests.programs.stack.stack import Stack

    Attempt = Callable[[AbstractChannel], Awaitable[object]]

_NAMES: Final = Names()


def _publish(exchange: str, key: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}"), key)

    return attempt


def _read(queue: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).get(fail=False)

    return attempt


def _consume(queue: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        # On the channel only: that of aio-pika would keep a consumer that RabbitMQ has refused.
        await (await channel.get_underlay_channel()).basic_consume(queue, _ignore)

    return attempt


async def _ignore(_: object) -> None:
    """Nothing shall come."""


def _declare(queue: str) -> Attempt:
    return lambda channel: channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})


def _bind(queue: str, exchange: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).bind(exchange, "#")

    return attempt


def _purge(queue: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).purge()

    return attempt


FORBIDDEN: Final[dict[str, dict[str, Attempt]]] = {
    "receiver": {
        "declare a queue": _declare("stack-test.intruder"),
        "declare the worker's queue": _declare(_NAMES.suppression),
        "declare an exchange": lambda channel: channel.declare_exchange("stack-test.intruder", durable=True),
        "delete the events' exchange": lambda channel: channel.exchange_delete(_NAMES.events),
        "delete the worker's queue": lambda channel: channel.queue_delete(_NAMES.suppression),
        "empty the worker's queue": _purge(_NAMES.suppression),
        "bind a queue to the events": _bind(EVENTS_QUEUE, _NAMES.events),
        "consume the worker's queue": _consume(_NAMES.suppression),
        "consume the archive": _consume(_NAMES.archive),
        "read another service's queue": _read(EVENTS_QUEUE),
        "read the dead letters": _read(_NAMES.dead),
        "publish to a queue by its name": _publish("", _NAMES.suppression),
        "publish changes of the list": _publish(_NAMES.changes, "added"),
        "publish to amq.topic": _publish("amq.topic", "anything"),
    },
    "sender": {
        "declare a queue": _declare("stack-test.intruder"),
        "publish an event": _publish(_NAMES.events, "hard_bounced"),
        "publish to a queue by its name": _publish("", _NAMES.suppression),
        "publish changes of the list": _publish(_NAMES.changes, "added"),
        "read the announcements": _read(_NAMES.announced),
        "bind a queue to the announcements": _bind(EVENTS_QUEUE, _NAMES.messages),
    },
    "worker": {
        "publish an event": _publish(_NAMES.events, "hard_bounced"),
        "publish to amq.topic": _publish("amq.topic", "anything"),
        "consume another service's queue": _consume(EVENTS_QUEUE),
        "read the quarantine": _read(_NAMES.malformed),
        "read what nothing was bound for": _read(_NAMES.unrouted),
        "declare another service's queue": _declare("stack-test.intruder"),
        "delete the quarantine": lambda channel: channel.queue_delete(_NAMES.malformed),
        "delete the events' exchange": lambda channel: channel.exchange_delete(_NAMES.events),
        "empty another service's queue": _purge(EVENTS_QUEUE),
        "bind another service's queue": _bind(EVENTS_QUEUE, _NAMES.events),
    },
    "crm": {
        "declare a queue": _declare("stack-test.intruder"),
        "delete the worker's queue": lambda channel: channel.queue_delete(_NAMES.suppression),
        "publish an event": _publish(_NAMES.events, "hard_bounced"),
        "publish to a queue by its name": _publish("", _NAMES.suppression),
        "publish changes of the list": _publish(_NAMES.changes, "added"),
        "consume another service's queue": _consume(EVENTS_QUEUE),
        "consume the archive": _consume(_NAMES.archive),
        "read the dead letters of the worker": _read(_NAMES.dead),
        "bind another service's queue": _bind(EVENTS_QUEUE, _NAMES.changes),
    },
}
"""User -> what it must not do -> how to try it."""


async def permitted(stack: Stack) -> list[str]:
    """What a user may do and should not; empty where the users are as they shall be.

    Raises:
        AMQPError, OSError: RabbitMQ cannot be asked.
    """
    wrong = []
    for user, attempts in FORBIDDEN.items():
        connection = await open_connection(await stack.url(user), name="stack-test")
        async with connection:
            for what, attempt in attempts.items():
                try:
                    # A channel for each: RabbitMQ closes the one on which it has refused something.
                    await attempt(await connection.channel())
                except ChannelAccessRefused:
                    continue
                except AMQPError as error:
                    wrong.append(f"{user}: {what}: not refused for its rights, but: {error}")
                else:
                    wrong.append(f"{user} may {what}")
    return wrong + await _guest(stack)


async def _guest(stack: Stack) -> list[str]:
    """RabbitMQ comes with a user that everybody knows the password of."""
    url = URL(await stack.url("operator")).with_user("guest").with_password("guest")
    with suppress(AMQPError, OSError):
        await (await open_connection(str(url), name="stack-test")).close()
        return ["guest may log in"]
    return []
