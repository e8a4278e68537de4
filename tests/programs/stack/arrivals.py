"""Queues of our own, for all events and for all changes of the list, read into the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import open_connection
from bridge.broker.topology import Names
from tests.programs.stack.engine import EngineError
from tests.support.history.consuming import Consumer

if TYPE_CHECKING:
    from tests.programs.stack.stack import Stack
    from tests.support.history.recorder import Recorder

EVENTS_QUEUE: Final = "stack-test.events"
CHANGES_QUEUE: Final = "stack-test.changes"

_NAMES: Final = Names()
_OPERATOR: Final = "operator"


async def listening(stack: Stack, recorder: Recorder) -> Consumer:
    """Declare them, durable and replicated, as a service would have them that must not miss anything.

    Returns:
        A consumer that reads them, over any loss of the connection, when it is run.
    """
    connection = await open_connection(await stack.url(_OPERATOR), name="stack-test")
    async with connection:
        channel = await connection.channel()
        for name, exchange in ((EVENTS_QUEUE, _NAMES.events), (CHANGES_QUEUE, _NAMES.changes)):
            queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(exchange, "#")

    async def where() -> str:
        """Docker publishes another port each time that RabbitMQ is started."""
        try:
            return await stack.url(_OPERATOR)
        except EngineError as error:
            raise ConnectionError(str(error)) from None

    return Consumer(where, recorder, events={EVENTS_QUEUE: ("#",)}, changes=[CHANGES_QUEUE])
