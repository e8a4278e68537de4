"""What RabbitMQ makes of a message that it dead-letters from a subscriber's queue holds to the contract, whatever the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.broker import declaring
from bridge.broker.change_messages import change_message
from bridge.broker.messages import malformed_message, message_from_body
from bridge.broker.topology_plan import planned_topology
from bridge.contract import meanings, schemas
from bridge.settings.subscribers import Subscriber
from bridge.suppression.change import Change
from tests.support import contract
from tests.support.working import AT, body_of, properties_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.amqp.message_types import Message
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit

pytestmark = pytest.mark.quick

SUBSCRIBERS = (
    Subscriber(queue="rejected", events=("#",), changes=True),
    Subscriber(queue="expired", events=("complained",), ttl=0.01),
    Subscriber(queue="maxlen", events=("complained", "opened"), max_length=1),
    Subscriber(queue="delivery_limit", events=("complained",), delivery_limit=1),
)
"""Each is named like the reason for which it gets dead letters here."""


@pytest.fixture
async def rabbit(rabbit: Rabbit, settings: Settings) -> AsyncIterator[Rabbit]:
    await declaring.declare(rabbit.connection, planned_topology(settings, SUBSCRIBERS))
    yield rabbit
    await rabbit.delete_subscribers(*(one.queue for one in SUBSCRIBERS))


def of_event(rabbit: Rabbit, name: str) -> Message:
    return message_from_body(body_of(name, 1), exchange=rabbit.names.events, received_at=AT * 1000)


async def publish(rabbit: Rabbit, *messages: Message) -> None:
    async with rabbit.channel() as channel:
        aiormq_channel = await channel.get_underlay_channel()
        for message in messages:
            await aiormq_channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties_of(message),
            )


async def refuse(rabbit: Rabbit, name: str, messages: int, *, requeue: bool) -> None:
    """Take so many messages, one after the other, and reject each."""
    async with rabbit.channel() as channel:
        await channel.set_qos(1)
        queue = await channel.get_queue(f"{rabbit.names.prefix}{name}")
        async with queue.iterator() as deliveries:
            for _ in range(messages):
                await (await anext(deliveries)).reject(requeue=requeue)


def properties_received(message: AbstractIncomingMessage) -> dict[str, Any]:
    given = ("content_type", "delivery_mode", "message_id", "timestamp", "type", "app_id", "headers")
    return {name: getattr(message, name) for name in given}


async def test_a_dead_letter_of_a_subscriber_holds_to_the_contract(rabbit: Rabbit) -> None:
    """Rejected, expired, too many, delivered too often: RabbitMQ's headers are those that the contract names."""
    change = Change(1, AT, "erased", "jane@example.org", None, "alice", "", None, None, None, None, ())
    await publish(
        rabbit,
        of_event(rabbit, "complained"),
        of_event(rabbit, "opened"),
        malformed_message(b"\xff", "no event", exchange=rabbit.names.events, received_at=AT * 1000),
        change_message(change, exchange=rabbit.names.changes),
    )
    await refuse(rabbit, "rejected", 4, requeue=False)
    await refuse(rabbit, "delivery_limit", 2, requeue=True)
    reasons = {}
    for subscriber in SUBSCRIBERS:
        queue = f"{rabbit.names.prefix}{subscriber.dead}"
        async with rabbit.reading(queue) as dead:
            for letter in await dead.take(4 if subscriber.queue == "rejected" else 1):
                properties = properties_received(letter)
                assert contract.kind_of("", queue, properties) == schemas.BROKER_DEAD_LETTER
                assert contract.problems("", queue, properties, letter.body) == []
                assert (letter.exchange, letter.routing_key) == ("", queue)
                reasons[subscriber.queue] = letter.headers["x-first-death-reason"]
    assert reasons == {reason: reason for reason in meanings.DEATHS}
