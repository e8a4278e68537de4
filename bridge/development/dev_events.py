"""What `bridge dev` shows: every event and every change of the list, also after RabbitMQ was away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aiormq.exceptions import AMQPError

from bridge import events
from bridge.amqp.connection import open_connection
from bridge.amqp.errors import TopologyRefusedError
from bridge.amqp.temporary_queue import consume_temporary_queue
from bridge.broker import topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.message_types import Delivery

_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class StackEvent:
    """An event, or a change of the list, to be printed in one line."""

    kind: str
    """The event's name, or the kind of change."""
    detail: str
    suppression: bool


async def show_events(
    rabbitmq_url: str, prefix: str, show: Callable[[StackEvent], None], *, ready: asyncio.Event
) -> None:
    """Show them for ever, through a temporary queue. Those that pass while RabbitMQ comes back may be missing.

    Args:
        rabbitmq_url: of the broker.
        prefix: of the bridge's names there.
        show: called for each.
        ready: set when none is missed any more.

    Raises:
        TopologyRefusedError, aiormq.exceptions.AMQPError, OSError: it could not be started.
    """
    names = topology.Names(prefix)
    bindings = [(names.events, "#"), (names.changes, "#")]
    while True:
        try:
            async with (
                await open_connection(rabbitmq_url, name="bridge dev") as connection,
                consume_temporary_queue(connection, bindings, name=f"{prefix}dev") as deliveries,
            ):
                ready.set()
                while True:
                    for delivery in await deliveries.receive():
                        show(_stack_event(delivery, names.changes))
        except (TopologyRefusedError, AMQPError, OSError):
            if not ready.is_set():
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


def _stack_event(message: Delivery, changes: str) -> StackEvent:
    """The line for a delivery. The body may be anything: quarantined bodies are delivered too."""
    kind = message.routing_key
    if message.exchange == changes:
        return StackEvent(kind, _change(message.body), suppression=True)
    try:
        detail = f"message {events.parse(message.body).message_id}"
    except (events.MalformedError, events.NotJsonError) as error:
        detail = f"not an event: {error}"
    return StackEvent(kind, detail, suppression=False)


def _change(body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return f"{document['address']} ({document['reason']})"
    except (ValueError, LookupError, TypeError):
        return "a message that is not a change of the list"
