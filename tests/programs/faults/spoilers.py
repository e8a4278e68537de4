"""What is bad for one event, message, look-up or queue, and has to cost nobody else anything."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import orjson
from pamqp import commands as spec

from bridge.amqp.message_types import Message
from bridge.broker.topology import Names
from bridge.receiver.handler import WEBHOOK_PATH
from tests.programs.faults.scene import TOKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from bridge.amqp.publisher import Publisher
    from tests.programs.faults.scene import Scene

    Spoil = Callable[["Bad"], Awaitable[None]]
    Prepare = Callable[[Scene], Awaitable[None]]

CRM: Final = "crm"
"""Another service's queue, which things are done to."""
_NAMES: Final = Names()
_FAR_FUTURE: Final = (2**62).to_bytes(8)
"""A timestamp that RabbitMQ takes, and that Python has no date for."""
_LARGEST_MESSAGE: Final = 20_000
"""Bytes that RabbitMQ takes in the case of a body that is too large."""
_NUMBERS: Final = itertools.count(1_000_000)
"""Messages that the simulator does not know."""


def webhook(scene: Scene) -> str:
    return f"http://127.0.0.1:{scene.ports[0]}{WEBHOOK_PATH}{TOKEN}"


class Bad:
    """What a case does: it is called again and again while good events are posted."""

    def __init__(self, scene: Scene, http: aiohttp.ClientSession, publisher: Publisher) -> None:
        self.scene = scene
        self.count = 0
        self._http = http
        self._publisher = publisher

    async def post(self, **event: Any) -> None:
        """An event of a message of its own, to the receiver."""
        number = next(_NUMBERS)
        body = {"message": {"id": number}, "event": {"timestamp": 1_700_000_000} | event}
        await self.post_raw(orjson.dumps(body))

    async def post_raw(self, body: bytes) -> None:
        self.count += 1
        async with self._http.post(webhook(self.scene), data=body) as answer:
            await answer.read()

    async def publish(self, properties: bytes, body: bytes) -> None:
        """A message with these properties, encoded, straight into the worker's queue."""
        self.count += 1
        await self._publisher.publish(Message("", _NAMES.suppression, "", properties, body))


async def refuse_a_name(scene: Scene) -> None:
    others = "^(?!misspelt_by_the_provider).*$"
    await scene.control.run("set_topic_permissions", "guest", _NAMES.events, others, ".*")


async def refused_name(bad: Bad) -> None:
    """The broker user may not publish under this name: 403, and RabbitMQ closes the channel."""
    await bad.post(name="misspelt_by_the_provider")


async def limit_sizes(scene: Scene) -> None:
    """A channel takes the limit when it is opened: 3.10 from the application's settings, 4.0 from a term."""
    await scene.control.evaluate(
        f"application:set_env(rabbit, max_message_size, {_LARGEST_MESSAGE}), "
        f"persistent_term:put(max_message_size, {_LARGEST_MESSAGE})."
    )
    await scene.control.run("close_all_connections", "the limit is for new channels")
    await scene.receivers[0].says("broker.connected", times=2)


async def oversized(bad: Bad) -> None:
    """RabbitMQ's `max_message_size` is below this body: 406, and it closes the channel."""
    await bad.post(name="clicked", data={"url": "https://example.org/" + "x" * 2 * _LARGEST_MESSAGE})


async def fill_a_queue(scene: Scene) -> None:
    policy = '{"max-length":2,"overflow":"reject-publish"}'
    await scene.control.run("set_policy", "--apply-to", "queues", "full", f"^{CRM}$", policy)


async def full_queue(bad: Bad) -> None:
    """Another service's queue is full and rejects: each event that is bound for it is nacked."""
    await bad.post(name="unsubscribed")


async def make_it_classic(scene: Scene) -> None:
    """Its team has declared the queue anew, and the bridge connects once more."""
    async with await aio_pika.connect(scene.node.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(CRM)
        await channel.declare_queue(CRM, durable=True)
    await scene.control.run("close_all_connections", "a fault")


async def other_type(bad: Bad) -> None:
    """Another service's queue stands as a classic one, and not as the bridge would declare it."""
    await bad.post(name="unsubscribed")


async def undecodable(bad: Bad) -> None:
    """A message whose timestamp Python's libraries cannot decode, in the worker's queue."""
    number = next(_NUMBERS)
    properties = spec.Basic.Properties(message_id=str(number), timestamp=datetime.fromtimestamp(0, UTC))
    await bad.publish(properties.marshal()[: -len(_FAR_FUTURE)] + _FAR_FUTURE, _bounce(number))


async def unreadable_look_up(bad: Bad) -> None:
    """The provider's answer for this message has no address in it."""
    number = next(_NUMBERS)
    bad.scene.simulator.add_message("", number)
    await bad.post_raw(_bounce(number))


async def unknown_message(bad: Bad) -> None:
    """The provider does not know the message."""
    await bad.post(name="hard_bounced")


async def no_address(bad: Bad) -> None:
    """What the provider says is no address."""
    number = next(_NUMBERS)
    bad.scene.simulator.add_message("nobody at all", number)
    await bad.post_raw(_bounce(number))


async def no_event(bad: Bad) -> None:
    """JSON that is no event goes to the quarantine."""
    await bad.post_raw(b'{"hello":"world"}')


def _bounce(number: int) -> bytes:
    event = {"name": "hard_bounced", "timestamp": 1_700_000_000}
    return orjson.dumps({"message": {"id": number}, "event": event})


async def nothing(_: Scene) -> None:
    """Nothing is to be prepared."""


@dataclass(frozen=True, slots=True)
class Case:
    what: str
    spoil: Spoil
    """Does one bad thing; it is called again and again."""
    before: Prepare = nothing
    """Called before good events are posted alone."""
    first: Prepare = nothing
    """Called when they have been, before the first bad thing."""


ALL: Final = (
    Case("an event that RabbitMQ refuses (403)", refused_name, before=refuse_a_name),
    Case("a body that is too large for RabbitMQ (406)", oversized, before=limit_sizes),
    Case("a subscriber's queue that is full and rejects", full_queue, before=fill_a_queue),
    Case("a subscriber's queue of another type", other_type, first=make_it_classic),
    Case("a message that cannot be decoded", undecodable),
    Case("a look-up that cannot be read", unreadable_look_up),
    Case("a message that the provider does not know", unknown_message),
    Case("an address that is none", no_address),
    Case("a body that is no event", no_event),
)
