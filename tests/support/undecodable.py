"""Messages that RabbitMQ takes and pamqp does not decode, published with frames that are written by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel

from bridge.amqp.frames import MessageFramer
from bridge.amqp.message_types import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.rabbit import Rabbit

_HEADERS, _DELIVERY_MODE, _MESSAGE_ID, _TIMESTAMP, _TYPE = 1 << 13, 1 << 12, 1 << 7, 1 << 6, 1 << 5


def entry(name: bytes, tag: bytes, value: bytes) -> bytes:
    """A header."""
    return bytes((len(name),)) + name + tag + value


def text(content: bytes) -> bytes:
    """The value of a header that is a text; or any that has its length in front."""
    return len(content).to_bytes(4) + content


def number(value: int) -> bytes:
    """Of a header of 64 bits."""
    return value.to_bytes(8, signed=True)


def properties(
    *entries: bytes, message_id: bytes = b"bad-1", at: int | None = None, kind: bytes = b""
) -> bytes:
    """Encoded: headers, persistent, message id, timestamp, type."""
    flags = _HEADERS | _DELIVERY_MODE | _MESSAGE_ID
    values = text(b"".join(entries)) + b"\x02" + bytes((len(message_id),)) + message_id
    if at is not None:
        flags |= _TIMESTAMP
        values += at.to_bytes(8)
    if kind:
        flags |= _TYPE
        values += bytes((len(kind),)) + kind
    return flags.to_bytes(2) + values


def nested(depth: int) -> bytes:
    """The value of an array in an array in an array."""
    value = text(b"")
    for _ in range(depth - 1):
        value = text(b"A" + value)
    return value


NOTE = entry(b"note", b"S", text(b"kept"))
BEYOND = (300_000_000_000_000).to_bytes(8)
"""A time after the year 9999, in seconds and in milliseconds."""
UNDECODABLE: Mapping[str, bytes] = {
    "a timestamp after the year 9999": properties(NOTE, at=int.from_bytes(BEYOND)),
    "a header that is a time after the year 9999": properties(entry(b"when", b"T", BEYOND), NOTE),
    "a time within a table within an array": properties(
        entry(b"deep", b"A", text(b"F" + text(entry(b"when", b"T", BEYOND)))), NOTE
    ),
    "a header's name that is no UTF-8": properties(entry(b"caf\xe9", b"S", text(b"x")), NOTE),
    "a type that is no UTF-8": properties(NOTE, kind=b"caf\xe9"),
    "arrays within arrays": properties(entry(b"deep", b"A", nested(200)), NOTE),
}
"""What is wrong -> encoded properties with the header `note`, which can be read."""


def are_the_same(delivered: bytes, sent: bytes) -> bool:
    """Whether these are the properties that were sent; RabbitMQ 4 puts the headers into another order."""
    begin, end = 6, 6 + int.from_bytes(sent[2:6])
    return (delivered[:begin], sorted(delivered[begin:end]), delivered[end:]) == (
        sent[:begin], sorted(sent[begin:end]), sent[end:],
    )  # fmt: skip


async def put(rabbit: Rabbit, key: str, encoded: bytes, body: bytes, *, exchange: str = "") -> None:
    """Into the queue of this name, or through an exchange, with these properties as they are; and confirmed."""
    async with rabbit.channel() as channel:
        below = await channel.get_underlay_channel()
        assert isinstance(below, Channel)
        framing = MessageFramer(below.number, below.max_content_size)
        message = Message(exchange, key, "", encoded, body, mandatory=False)
        confirm = asyncio.get_running_loop().create_future()
        below.delivery_tag += 1
        below.confirmations[below.delivery_tag] = confirm
        await below.write_queue.put(ChannelFrame(b"".join(framing.frames(message)), should_close=False))
        async with asyncio.timeout(90):
            await confirm
