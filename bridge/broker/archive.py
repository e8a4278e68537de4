"""Reading the archive, the stream that every event is in, from any point of it up to another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.amqp.deliveries import Deliveries
from bridge.amqp.encoded_header import Header
from bridge.amqp.errors import BrokerUnavailableError
from bridge.amqp.frames import Message
from bridge.broker.forwarded_properties import ROUTING, rewritten
from bridge.events import other_spellings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from aio_pika.abc import AbstractConnection

OFFSET_HEADER: Final = "x-stream-offset"
"""The argument that says where to begin, and the header that says where a message stands."""
BEGINNING: Final = "first"

Place = str | int | datetime
"""Where to begin: `BEGINNING`, an offset, or a time, by which RabbitMQ finds the chunk that holds it."""

_PREFETCH: Final = 1000
_LAST_CHUNK_SECONDS: Final = 2.0
"""A stream that has anything sends its last chunk at once; this long without one means that it is empty."""
_SILENT_SECONDS: Final = 10.0
"""While there is more to come, this long without a message is no end, but a loss."""
_OF_RABBITMQ: Final = "x-"
"""How headers begin that say where a message has been, and not what it is."""
_OFFSET: Final = Header(OFFSET_HEADER)


class Archived(NamedTuple):
    """An event where it stands."""

    offset: int
    routing_key: str
    """The event's name."""
    properties: bytes
    """Encoded, as in `frames.Message`."""
    body: bytes


async def read(
    connection: AbstractConnection, stream: str, *, begin: Place = BEGINNING, last: int | None = None
) -> AsyncGenerator[list[Archived], None]:
    """Every message that is in the stream when this is called, oldest first, many at a time; to be used in `aclosing`.

    Args:
        connection: an open connection of `open_connection`; channels of its own are used on it.
        stream: the archive's name.
        begin: where. From a time on, what comes first may be older: chunks are found by time, not messages.
        last: the offset to end at, if `last_offset` has been asked before.

    Raises:
        BrokerUnavailableError: the messages stop coming before the last one.
        aiormq.exceptions.AMQPError: the connection is gone, or the stream is not there.
    """
    if last is None:
        last = await last_offset(connection, stream)
    if last is None or (isinstance(begin, int) and begin > last):
        return
    first = begin if isinstance(begin, int) else 0
    async with _from(connection, stream, begin) as deliveries:
        while True:
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    delivered = await deliveries.some()
            except TimeoutError:
                raise BrokerUnavailableError(
                    f"the stream '{stream}' fell silent before its last message"
                ) from None
            found = [
                Archived(
                    _OFFSET.number(message.properties) or 0,
                    message.routing_key,
                    message.properties,
                    message.body,
                )
                for message in delivered
            ]
            if wanted := [message for message in found if first <= message.offset <= last]:
                yield wanted
            if found[-1].offset >= last:
                return


async def last_offset(connection: AbstractConnection, stream: str) -> int | None:
    """Where the stream ends now; None when it is empty.

    `last` is where the last chunk begins; what comes at once is that chunk, and what live traffic adds to it.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `read`.
    """
    last = None
    async with _from(connection, stream, "last") as deliveries:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CHUNK_SECONDS):
                while True:
                    last = _OFFSET.number((await deliveries.some())[-1].properties)
    return last


def again(event: Archived, *, exchange: str, routing_key: str) -> Message:
    """The event once more, with its own bytes, properties and id.

    Through the events' exchange it is routed as at first, under both spellings of its name; through the default
    exchange, '', it goes to one queue.
    """
    others = other_spellings(routing_key) if exchange else ()
    headers: dict[str, Any] = {"CC": list(others)} if others else {}

    def stays_behind(name: str) -> bool:
        return name in ROUTING or name.startswith(_OF_RABBITMQ)

    message_id, properties = rewritten(event.properties, headers=headers, without=stays_behind)
    return Message(exchange, routing_key, message_id, properties, event.body)


def _from(
    connection: AbstractConnection, stream: str, begin: Place
) -> AbstractAsyncContextManager[Deliveries]:
    # To a stream an acknowledgement is credit for more, and nothing else.
    return Deliveries.of(
        connection,
        stream,
        prefetch=_PREFETCH,
        acknowledge_every=_PREFETCH // 2,
        arguments={OFFSET_HEADER: begin},
    )
