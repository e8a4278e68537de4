"""Markers: messages that say that the suppression queue still has to be filled from the archive, and from which offset.

A marker is in a queue of its own before the suppression queue is declared, and stays there until the backfill is done.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aiormq.exceptions import ChannelAccessRefused, DeliveryError
from pamqp import commands as spec

from bridge.amqp import properties
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, call_errors_as_loss
from bridge.amqp.message_types import Message, make_message
from bridge.broker import declaring
from bridge.broker.messages import PERSISTENT
from bridge.broker.queue_counts import queue_counts, queue_exists
from bridge.broker.topology import Topology, moving
from bridge.events import digest
from bridge.telemetry import logs
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.broker.topology import Names

log = logs.logger("broker")

_MAX_READ: Final = 1000
"""Markers to read. One is enough to know that a backfill is pending."""
_TIMEOUT_SECONDS: Final = 5.0
"""Timeout for the next marker, and for another reader to finish."""
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class PendingBackfill:
    """What all markers together say."""

    offset: int | None
    """The archive offset to continue from; None is the beginning."""
    ids: frozenset[str]
    """The ids of the markers that were read."""


async def safe_to_declare(
    connection: AbstractConnection, topology: Topology, names: Names, mode: str
) -> bool:
    """Whether the suppression queue may be declared. If it has to be filled then, a marker is published first.

    It has to be filled if the archive exists and the queue does not: then the queue was deleted with its messages. While it is
    moved, another queue has them.

    Args:
        connection: an open connection.
        topology: the planned one.
        names: of the queues.
        mode: the setting `rabbitmq.declare`.

    Returns:
        False if no marker can be published: declaring the queue now would hide that it has to be filled.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    if mode == "never" or not await queue_exists(connection, names.archive):
        return True
    if await queue_exists(connection, names.suppression) or await is_being_moved(connection, names):
        return True
    if not await add_marker(connection, topology, names, mode):
        return False
    log.warning(
        "the suppression queue is missing: it will be filled from the archive",
        action="topology.backfill_due",
        queue=names.suppression,
    )
    return True


async def is_being_moved(connection: AbstractConnection, names: Names) -> bool:
    """Whether `topology apply --migrate` moves the suppression queue: then it may be gone, or have no bindings.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `safe_to_declare`.
    """
    return await queue_exists(connection, moving(names.suppression))


async def add_marker(connection: AbstractConnection, topology: Topology, names: Names, mode: str) -> bool:
    """Publish a marker for the beginning of the archive; returns whether it was confirmed. Else the reason is logged.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `safe_to_declare`.
    """
    marker_topology = Topology(
        (), tuple(queue for queue in topology.queues if queue.name == names.backfill), ()
    )
    try:
        await declaring.apply_all(connection, marker_topology, mode)
        await _publish_marker(connection, names.backfill)
    except (TopologyRefusedError, ChannelAccessRefused, DeliveryError) as refusal:
        log.error(  # noqa: TRY400 -- the reason is enough
            "no marker can be published for the backfill of the suppression queue",
            action="topology.no_marker",
            queue=names.backfill,
            reason=error_line(refusal),
        )
        return False
    return True


def make_marker(queue: str, offset: int | None) -> Message:
    """A marker for this queue: every event before this archive offset is in the suppression queue."""
    return make_message(exchange="", routing_key=queue, properties=_properties(), body=_body(offset))


async def read_markers(connection: AbstractConnection, queue: str) -> PendingBackfill | None:
    """What all markers together say; None if there is none. They stay in their queue.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    ids: set[str] = set()
    offsets: list[int | None] = []
    async with _reading(connection, queue) as markers:
        async for marker in markers:
            ids.add(_id(marker))
            offsets.append(_offset(marker.body))
    if not ids:
        return None
    known = [offset for offset in offsets if offset is not None]
    return PendingBackfill(min(known) if len(known) == len(offsets) else None, frozenset(ids))


async def remove_markers(connection: AbstractConnection, queue: str, ids: Collection[str]) -> None:
    """Remove these markers. Later ones stay: they mean that the queue was deleted again.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    async with _reading(connection, queue, ids) as markers:
        async for _ in markers:
            pass


@asynccontextmanager
async def _reading(
    connection: AbstractConnection, queue: str, unwanted: Collection[str] = ()
) -> AsyncIterator[AsyncGenerator[Delivery, None]]:
    """All markers in the queue now. The unwanted ones are acknowledged, the others are requeued at the end."""
    total = min(await _count_without_consumers(connection, queue), _MAX_READ)
    async with Deliveries.open(connection, queue, prefetch=_MAX_READ, acknowledge_every=None) as deliveries:

        async def markers() -> AsyncGenerator[Delivery, None]:
            seen = 0
            while seen < total:
                async with _time_limit():
                    some = await deliveries.receive(total - seen)
                seen += len(some)
                for one in some:
                    if _id(one) in unwanted:
                        await deliveries.acknowledge(one)
                    yield one

        async with aclosing(markers()) as found:
            yield found
    await _count_without_consumers(connection, queue)


async def _count_without_consumers(connection: AbstractConnection, queue: str) -> int:
    """How many there are, once the queue has no consumer: only then has a former reader requeued all of them."""
    async with _time_limit():
        while True:
            total, consumers = await queue_counts(connection, queue)
            if not consumers:
                return total
            await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            yield
    except TimeoutError:
        raise BrokerUnavailableError(
            f"the backfill markers could not be read in {_TIMEOUT_SECONDS:g} s"
        ) from None


async def _publish_marker(connection: AbstractConnection, queue: str) -> None:
    """Publish a marker for the beginning of the archive, and wait for its confirm."""
    with call_errors_as_loss(connection):
        async with connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            await (await channel.get_underlay_channel()).basic_publish(
                _body(None), routing_key=queue, properties=_properties(), mandatory=True
            )


def _properties() -> spec.Basic.Properties:
    return spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=PERSISTENT,
        message_id=uuid.uuid4().hex,
        app_id="bridge",
    )


def _body(offset: int | None) -> bytes:
    return orjson.dumps({"offset": offset})


def _id(marker: Delivery) -> str:
    """Foreign messages get an id too. The headers are not part of it: RabbitMQ counts deliveries in them."""
    return properties.decode_properties(marker.properties).message_id or digest(marker.body)


def _offset(body: bytes) -> int | None:
    """None, the beginning, if the body cannot be read."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    offset = document.get("offset") if isinstance(document, dict) else None
    return offset if isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0 else None
