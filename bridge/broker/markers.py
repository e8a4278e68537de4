"""The messages that say that the suppression queue is still to be filled from the archive, and from where on.

They are in a queue of their own before the suppression queue is made, and stay ready in it for as long as it is due.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aiormq.exceptions import ChannelAccessRefused, DeliveryError
from pamqp import commands as spec

from bridge.broker import declaring
from bridge.broker.frames import Message, composed
from bridge.broker.message import PERSISTENT
from bridge.broker.session import BrokerRefusedError
from bridge.broker.topology import Topology
from bridge.events import digest
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from bridge.broker.topology import Names

log = logs.logger("topology")

_MOST: Final = 1000
"""That are looked at; each says that it is due, and one would do."""


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
        TimeoutError: RabbitMQ does not answer.
        aiormq.exceptions.AMQPError: the connection is gone.
    """
    if mode == "never" or await declaring.depth(connection, names.archive) is None:
        return True
    if await declaring.depth(connection, names.suppression) is not None:
        return True
    own = Topology((), tuple(queue for queue in topology.queues if queue.name == names.backfill), ())
    try:
        await declaring.ensure(connection, own, mode)
        await _put(connection, names.backfill)
    except (BrokerRefusedError, ChannelAccessRefused, DeliveryError) as refusal:
        log.error(  # noqa: TRY400 -- the reason says it all
            "the suppression queue is missing and cannot be made here: that it must be filled cannot be noted",
            action="topology.no_marker",
            queue=names.backfill,
            reason=" ".join(str(refusal).split()),
        )
        return False
    log.warning(
        "the suppression queue is missing: it will be filled from the archive",
        action="topology.backfill_due",
        queue=names.suppression,
    )
    return True


def marker(queue: str, offset: int | None) -> Message:
    """A marker for this queue: all that stands before this offset of the archive is in the suppression queue."""
    return composed(exchange="", routing_key=queue, properties=_properties(), body=_body(offset))


async def read(connection: AbstractConnection, queue: str) -> Due | None:
    """What all markers say together, None where there is none; they are left where they are.

    Raises:
        aiormq.exceptions.AMQPError: the connection is gone.
    """
    channel = await connection.channel(publisher_confirms=False)
    standing = await channel.get_queue(queue, ensure=False)
    ids: set[str] = set()
    offsets: list[int | None] = []
    while len(ids) < _MOST and (message := await standing.get(fail=False)) is not None:
        ids.add(_id(message))
        offsets.append(_offset(message.body))
    await channel.close()  # which gives them back
    if not ids:
        return None
    known = [offset for offset in offsets if offset is not None]
    return Due(min(known) if len(known) == len(offsets) else None, frozenset(ids))


async def remove(connection: AbstractConnection, queue: str, ids: Collection[str]) -> None:
    """Take these markers away. Others that came meanwhile stay: the queue was deleted once more.

    Raises:
        aiormq.exceptions.AMQPError: the connection is gone.
    """
    channel = await connection.channel(publisher_confirms=False)
    standing = await channel.get_queue(queue, ensure=False)
    left = set(ids)
    while left and (message := await standing.get(fail=False)) is not None:
        if _id(message) in left:
            await message.ack()
            left.discard(_id(message))
    await channel.close()


async def _put(connection: AbstractConnection, queue: str) -> None:
    """A marker that says: from the beginning. Returns when RabbitMQ has confirmed it."""
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


def _id(message: AbstractIncomingMessage) -> str:
    return message.message_id or digest(message.body)


def _offset(body: bytes) -> int | None:
    """What cannot be read says: from the beginning."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    offset = said.get("offset") if isinstance(said, dict) else None
    return offset if isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0 else None
