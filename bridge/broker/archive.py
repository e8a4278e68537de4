"""Reads the archive, the stream with every event, from one offset or time to another."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.amqp.deliveries import Deliveries
from bridge.amqp.encoded_header import EncodedHeader
from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.copies import copy_of
from bridge.broker.queue_counts import queue_exists, ready_messages
from bridge.events import other_spellings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery, Message

OFFSET_HEADER: Final = "x-stream-offset"
"""The consumer argument with the start, and the header with the offset of a message."""
FIRST: Final = "first"

StartPosition = str | int | datetime
"""Where to start: `FIRST`, an offset, or a time. For a time RabbitMQ starts at the chunk that contains it."""

_PREFETCH: Final = 1000
_LAST_CHUNK_SECONDS: Final = 2.0
"""A stream sends its last chunk at once. After this time it has come, or there is none, if RabbitMQ says so, too."""
_STEP_SECONDS: Final = 0.1
"""This process is known to be awake again after such a wait."""
_SILENT_SECONDS: Final = 10.0
"""After this time without a message, before the last one, RabbitMQ counts as lost."""
_OFFSET: Final = EncodedHeader(OFFSET_HEADER)


class ArchivedEvent(NamedTuple):
    """An event in the archive, with its offset."""

    offset: int
    routing_key: str
    """The event's name."""
    properties: bytes
    """Encoded, as in `message_types.Message`."""
    body: bytes


async def read_archive(
    connection: AbstractConnection, stream: str, *, begin: StartPosition = FIRST, last: int | None = None
) -> AsyncGenerator[list[ArchivedEvent], None]:
    """Every message that is in the stream now, oldest first, in batches. To be used in `aclosing`.

    Args:
        connection: an open connection from `open_connection`; it uses channels of its own.
        stream: the archive's name.
        begin: where to start. For a time, the first messages may be older: RabbitMQ finds chunks by time, not messages.
            If there is none since then, all come.
        last: the offset to end at, if it is known; else `last_offset` is asked.

    Raises:
        BrokerUnavailableError: the messages stop coming before the last one.
        aiormq.exceptions.AMQPError: the connection is lost, or there is no such stream.
    """
    if last is None:
        last = await last_offset(connection, stream)
    if last is None or (isinstance(begin, int) and begin > last):
        return
    if isinstance(begin, datetime) and not await _has_since(connection, stream, begin):
        begin = FIRST
    first = begin if isinstance(begin, int) else 0
    async with _consume_from(connection, stream, begin) as deliveries:
        while True:
            found = [
                ArchivedEvent(
                    _OFFSET.number(message.properties) or 0,
                    message.routing_key,
                    message.properties,
                    message.body,
                )
                for message in await _receive(stream, deliveries)
            ]
            if in_range := [message for message in found if first <= message.offset <= last]:
                yield in_range
            if found[-1].offset >= last:
                return


async def _has_since(connection: AbstractConnection, stream: str, begin: datetime) -> bool:
    """Whether RabbitMQ sends anything from this time on. If all is older, it waits for the next message instead."""
    async with (
        _consume_from(connection, stream, begin) as deliveries,
        aclosing(_sent_at_once(connection, stream, deliveries)) as batches,
    ):
        return await anext(batches, None) is not None


async def last_offset(connection: AbstractConnection, stream: str) -> int | None:
    """The offset of the last message now; None if the stream is empty.

    The start `last` is the beginning of the last chunk. RabbitMQ sends that chunk at once, and then live traffic.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `read_archive`.
    """
    async with _consume_from(connection, stream, "last") as deliveries:
        last = await _last_sent_at_once(connection, stream, deliveries)
        # That a busy RabbitMQ sends nothing yet does not say that there is nothing: whoever reads would lose all.
        if last is None and await ready_messages(connection, stream):
            [*_, first] = await _receive(stream, deliveries)
            last = await _last_sent_at_once(connection, stream, deliveries) or first
    return None if last is None else _OFFSET.number(last.properties)


async def _last_sent_at_once(
    connection: AbstractConnection, stream: str, deliveries: Deliveries
) -> Delivery | None:
    last = None
    async with aclosing(_sent_at_once(connection, stream, deliveries)) as batches:
        async for found in batches:
            last = found[-1]
    return last


async def _sent_at_once(
    connection: AbstractConnection, stream: str, deliveries: Deliveries
) -> AsyncGenerator[list[Delivery], None]:
    """What RabbitMQ sends within `_LAST_CHUNK_SECONDS`. To be used in `aclosing`.

    Time in which either side stands still does not count, or what is on its way would be missed, and a replay would end
    early without a word: this process waits in small steps, and RabbitMQ has to answer a question in the middle and at the end.
    """
    for _ in range(2):
        waited = 0.0
        while waited < _LAST_CHUNK_SECONDS / 2:
            began = time.monotonic()
            if found := await _received_within(_STEP_SECONDS, deliveries):
                yield found
            waited += min(time.monotonic() - began, _STEP_SECONDS)
        await queue_exists(connection, stream)
    if found := await _received_within(_STEP_SECONDS, deliveries):
        yield found


async def _received_within(seconds: float, deliveries: Deliveries) -> list[Delivery]:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await deliveries.receive()
    return []


async def _receive(stream: str, deliveries: Deliveries) -> list[Delivery]:
    try:
        async with asyncio.timeout(_SILENT_SECONDS):
            return await deliveries.receive()
    except TimeoutError:
        raise BrokerUnavailableError(
            f"the stream '{stream}' sent nothing for {_SILENT_SECONDS:g} s before its last message"
        ) from None


def copy_of_event(event: ArchivedEvent, *, exchange: str, routing_key: str) -> Message:
    """A copy of the event, with its own bytes, properties and id.

    Through the events exchange it is routed as the original was, by both spellings of its name. Through the default
    exchange, '', it goes to one queue.
    """
    others = other_spellings(routing_key) if exchange else ()
    headers: dict[str, Any] = {"CC": list(others)} if others else {}
    return copy_of(event.properties, event.body, exchange=exchange, routing_key=routing_key, headers=headers)


def _consume_from(
    connection: AbstractConnection, stream: str, begin: StartPosition
) -> AbstractAsyncContextManager[Deliveries]:
    # For a stream, an acknowledgement is only credit for more messages.
    return Deliveries.open(
        connection,
        stream,
        prefetch=_PREFETCH,
        acknowledge_every=_PREFETCH // 2,
        arguments={OFFSET_HEADER: begin},
    )
