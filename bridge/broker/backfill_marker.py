"""The messages that say that the suppression queue is still to be filled from the archive, and from where on.

They are in a queue of their own before the suppression queue is made, and stay ready in it for as long as it is due.
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
from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError, may_be_lost
from bridge.amqp.frames import Message, composed
from bridge.broker import declaring
from bridge.broker.messages import PERSISTENT
from bridge.broker.topology import Topology
from bridge.events import digest
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.deliveries import Delivery
    from bridge.broker.topology import Names

log = logs.logger("topology")

_MOST: Final = 1000
"""That are looked at; each says that it is due, and one would do."""
_PATIENCE_SECONDS: Final = 5.0
"""For the next one that stands there, and for who looked at them before."""
_LOOK_EVERY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Due:
    """What all markers say together."""

    offset: int | None
    """Where in the archive to go on; None is from its beginning."""
    ids: frozenset[str]
    """Of the markers that were read."""


async def safe_to_declare(
    connection: AbstractConnection, topology: Topology, names: Names, mode: str
) -> bool:
    """Before the suppression queue may be made: where it must be filled then, a marker is confirmed first.

    It must where the archive stands and the queue does not: it has been deleted, with what was in it.

    Args:
        connection: an open connection.
        topology: as planned.
        names: of the queues.
        mode: of `rabbitmq.declare`.

    Returns:
        False where there can be no marker: whoever makes the queue now would hide that it must be filled.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    if mode == "never" or await declaring.depth(connection, names.archive) is None:
        return True
    if await declaring.depth(connection, names.suppression) is not None:
        return True
    if not await note(connection, topology, names, mode):
        return False
    log.warning(
        "the suppression queue is missing: it will be filled from the archive",
        action="topology.backfill_due",
        queue=names.suppression,
    )
    return True


async def note(connection: AbstractConnection, topology: Topology, names: Names, mode: str) -> bool:
    """Put a marker that says: from the beginning. Whether it is confirmed; else the reason is logged.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: as `safe_to_declare`.
    """
    own = Topology((), tuple(queue for queue in topology.queues if queue.name == names.backfill), ())
    try:
        await declaring.ensure(connection, own, mode)
        await _put(connection, names.backfill)
    except (BrokerRefusedError, ChannelAccessRefused, DeliveryError) as refusal:
        log.error(  # noqa: TRY400 -- the reason says it all
            "that the suppression queue is to be filled from the archive cannot be noted",
            action="topology.no_marker",
            queue=names.backfill,
            reason=" ".join(str(refusal).split()),
        )
        return False
    return True


def marker(queue: str, offset: int | None) -> Message:
    """A marker for this queue: all that stands before this offset of the archive is in the suppression queue."""
    return composed(exchange="", routing_key=queue, properties=_properties(), body=_body(offset))


async def read(connection: AbstractConnection, queue: str) -> Due | None:
    """What all markers say together, None where there is none; they are left where they are.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    ids: set[str] = set()
    offsets: list[int | None] = []
    async with _looking(connection, queue) as standing:
        async for marker in standing:
            ids.add(_id(marker))
            offsets.append(_offset(marker.body))
    if not ids:
        return None
    known = [offset for offset in offsets if offset is not None]
    return Due(min(known) if len(known) == len(offsets) else None, frozenset(ids))


async def remove(connection: AbstractConnection, queue: str, ids: Collection[str]) -> None:
    """Take these markers away. Others that came meanwhile stay: the queue was deleted once more.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is gone.
    """
    async with _looking(connection, queue, ids) as standing:
        async for _ in standing:
            pass


@asynccontextmanager
async def _looking(
    connection: AbstractConnection, queue: str, unwanted: Collection[str] = ()
) -> AsyncIterator[AsyncGenerator[Delivery, None]]:
    """All that stand there now; but for the unwanted they are given back at the end."""
    total = min(await _when_nobody_looks(connection, queue), _MOST)
    async with Deliveries.of(connection, queue, prefetch=_MOST, acknowledge_every=None) as deliveries:

        async def standing() -> AsyncGenerator[Delivery, None]:
            seen = 0
            while seen < total:
                async with _patience():
                    some = await deliveries.some(total - seen)
                seen += len(some)
                for one in some:
                    if _id(one) in unwanted:
                        await deliveries.let_go(one)
                    yield one

        async with aclosing(standing()) as found:
            yield found
    await _when_nobody_looks(connection, queue)


async def _when_nobody_looks(connection: AbstractConnection, queue: str) -> int:
    """How many there are. Whoever looked has given them back when RabbitMQ counts no consumer any more: not at once."""
    async with _patience():
        while True:
            total, consumers = await declaring.counts(connection, queue)
            if not consumers:
                return total
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise BrokerUnavailableError(f"the markers cannot be read in {_PATIENCE_SECONDS:g} s") from None


async def _put(connection: AbstractConnection, queue: str) -> None:
    """A marker that says: from the beginning. Returns when RabbitMQ has confirmed it."""
    with may_be_lost(connection):
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
    """Whatever somebody may have put there has one. To its headers RabbitMQ adds how often it was delivered."""
    return properties.read(marker.properties).message_id or digest(marker.body)


def _offset(body: bytes) -> int | None:
    """What cannot be read says: from the beginning."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    offset = said.get("offset") if isinstance(said, dict) else None
    return offset if isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0 else None
