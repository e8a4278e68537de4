"""The queues of one subscriber in RabbitMQ: what stands of them, whether we may declare them, and their deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from bridge.amqp.errors import TopologyRefusedError, call_errors_as_loss
from bridge.broker.queue_counts import queue_counts
from bridge.broker.topology import Names, Topology
from bridge.broker.topology_plan import subscriber_bindings, subscriber_queues
from bridge.text import collapse

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.settings.subscribers import Subscriber


class Standing(NamedTuple):
    """A queue that stands in RabbitMQ."""

    queue: str
    messages: int
    """Ready ones."""
    consumers: int


def topology_of(prefix: str, subscriber: Subscriber) -> Topology:
    """Its two queues and their bindings. Args: `rabbitmq.prefix`; it."""
    bindings = tuple(subscriber_bindings(Names(prefix), subscriber))
    return Topology((), subscriber_queues(prefix, subscriber), bindings)


async def standing(connection: AbstractConnection, prefix: str, subscriber: Subscriber) -> list[Standing]:
    """Which of its two queues stand: its own first, then that of its dead letters.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    found = []
    for queue in (f"{prefix}{subscriber.queue}", f"{prefix}{subscriber.dead}"):
        try:
            found.append(Standing(queue, *await queue_counts(connection, queue)))
        except ChannelNotFoundEntity:
            continue
    return found


async def delete(connection: AbstractConnection, queue: str) -> int:
    """Delete a queue, with its bindings and whatever is in it. Returns how many ready messages that were.

    A queue that does not stand is as good as deleted.

    Raises:
        TopologyRefusedError: the broker user may not delete it.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    with call_errors_as_loss(connection):
        channel = await connection.channel(publisher_confirms=False)
        try:
            deleted = await channel.queue_delete(queue)
        except ChannelNotFoundEntity:
            return 0
        except ChannelAccessRefused as refusal:
            raise TopologyRefusedError(
                f"the broker user may not delete queue '{queue}': {collapse(str(refusal))}"
            ) from None
        await channel.close()
    return deleted.message_count or 0
