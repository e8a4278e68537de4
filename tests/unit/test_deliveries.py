"""Deliveries at the socket: whole messages come out of frames, however the network cuts them; the rest is aiormq's."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

import bridge
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.delivery_frames import DeliveryAssembler
from bridge.amqp.encoded_header import EncodedHeader
from bridge.amqp.errors import BrokerUnavailableError
from bridge.amqp.properties import decode_properties
from bridge.amqp.wire import InterceptingStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.message_types import Delivery

CHANNEL = 3
PROPERTIES = spec.Basic.Properties(message_id="an-id", headers={"x-stream-offset": 2**40, "text": "words"})


def frames_of(number: int, parts: Sequence[bytes], channel: int = CHANNEL) -> bytes:
    """A delivery as RabbitMQ sends it."""
    deliver = spec.Basic.Deliver("a-consumer", number, True, "an-exchange", f"key-{number}")  # noqa: FBT003 -- pamqp's
    header = ContentHeader(body_size=sum(map(len, parts)), properties=PROPERTIES)
    bodies = [frame.marshal(ContentBody(part), channel) for part in parts]
    return b"".join((frame.marshal(deliver, channel), frame.marshal(header, channel), *bodies))


async def delivered_of(data: bytes, cuts: Sequence[int]) -> tuple[list[Delivery], bytes]:
    """What is delivered of these bytes, when they come in these pieces, and what is left to aiormq."""
    stream = InterceptingStream(asyncio.get_running_loop())
    deliveries = Deliveries(1)
    stream.route(CHANNEL, DeliveryAssembler(deliveries.add).handle)
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        stream.feed_data(data[begin:end])
    stream.feed_eof()
    left = await stream.read()
    return await deliveries.receive(), left.replace(Heartbeat().marshal(), b"")


@given(
    bodies=st.lists(st.lists(st.binary(min_size=1, max_size=30), max_size=3), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_message_comes_out_whole_and_in_order(bodies: list[list[bytes]], data: st.DataObject) -> None:
    """Empty bodies, bodies of several frames, other channels and other methods between them, cut anywhere."""
    others = frame.marshal(spec.Basic.CancelOk("a-consumer"), CHANNEL) + frames_of(
        1, [b"theirs"], CHANNEL + 1
    )
    sent = others.join(frames_of(number, parts) for number, parts in enumerate(bodies, start=1))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    delivered, left = asyncio.run(delivered_of(sent, cuts))
    assert [message.body for message in delivered] == [b"".join(parts) for parts in bodies]
    assert [message.routing_key for message in delivered] == [f"key-{n}" for n in range(1, len(bodies) + 1)]
    assert left == others * (len(bodies) - 1)
    assert [message.tag for message in delivered] == list(range(1, len(bodies) + 1))
    for message in delivered:
        assert (message.exchange, message.redelivered) == ("an-exchange", True)
        assert decode_properties(message.properties).message_id == "an-id"
        assert EncodedHeader("x-stream-offset").number(message.properties) == 2**40
        assert EncodedHeader("text").text(message.properties) == "words"


async def test_a_channel_that_is_handed_back_is_aiormqs_again() -> None:
    """Its number may be used for another channel."""
    stream = InterceptingStream(asyncio.get_running_loop())
    stream.route(CHANNEL, DeliveryAssembler(Deliveries(1).add).handle)
    stream.unroute(CHANNEL)
    stream.feed_data(sent := frames_of(1, [b"body"]))
    stream.feed_eof()
    assert await stream.read() == sent


async def test_what_has_come_is_taken_before_the_loss_is_raised() -> None:
    """Nothing that was delivered is thrown away; whoever waits hears of the loss."""
    deliveries = Deliveries(10)
    data = frames_of(1, [b"body"])
    stream = InterceptingStream(asyncio.get_running_loop())
    stream.route(CHANNEL, DeliveryAssembler(deliveries.add).handle)
    stream.feed_data(data)
    deliveries._on_loss("the consumer was cancelled")
    assert [message.body for message in await deliveries.receive()] == [b"body"]
    with pytest.raises(BrokerUnavailableError, match="the consumer was cancelled"):
        await deliveries.receive()


async def test_every_channel_has_its_taker() -> None:
    """Several consumers on one connection, with the frames of their messages between each other."""
    stream = InterceptingStream(asyncio.get_running_loop())
    ours, theirs = Deliveries(None), Deliveries(None)
    stream.route(CHANNEL, DeliveryAssembler(ours.add).handle)
    stream.route(CHANNEL + 1, DeliveryAssembler(theirs.add).handle)
    mine, other = frames_of(1, [b"mine"]), frames_of(1, [b"theirs"], CHANNEL + 1)
    middle = len(frame.marshal(spec.Basic.Deliver("a-consumer", 1, True, "an-exchange", "key-1"), CHANNEL))  # noqa: FBT003 -- pamqp's
    for piece in (mine[:middle], other[:middle], mine[middle:], other[middle:]):
        stream.feed_data(piece)
    assert [message.body for message in await ours.receive()] == [b"mine"]
    assert [message.body for message in await theirs.receive()] == [b"theirs"]


async def test_so_many_are_taken_as_are_asked_for() -> None:
    """The rest comes the next time."""
    deliveries = Deliveries(None)
    stream = InterceptingStream(asyncio.get_running_loop())
    stream.route(CHANNEL, DeliveryAssembler(deliveries.add).handle)
    stream.feed_data(b"".join(frames_of(number, [b"body"]) for number in range(1, 6)))
    assert [[message.tag for message in await deliveries.receive(2)] for _ in range(3)] == [
        [1, 2],
        [3, 4],
        [5],
    ]


async def test_a_routing_key_that_is_no_text_is_no_longer_than_it_was() -> None:
    """It may have to fit into a message once more: 255 bytes."""
    deliveries = Deliveries(None)
    stream = InterceptingStream(asyncio.get_running_loop())
    stream.route(CHANNEL, DeliveryAssembler(deliveries.add).handle)
    arguments = b"\x01c" + (7).to_bytes(8) + b"\x00" + b"\x00" + b"\xff" + b"\xff" * 255
    method = (60 << 16 | 60).to_bytes(4) + arguments
    stream.feed_data(b"\x01" + CHANNEL.to_bytes(2) + len(method).to_bytes(4) + method + b"\xce")
    stream.feed_data(frame.marshal(ContentHeader(body_size=0, properties=PROPERTIES), CHANNEL))
    ((message,),) = [await deliveries.receive()]
    assert message.routing_key == "\ufffd" * 85


@pytest.mark.parametrize(
    ("headers", "number"),
    [
        ({"received-at": 5}, 5),
        ({"received-at": 2**40}, 2**40),
        ({"received-at": "soon"}, None),
        ({"other": 1}, None),
        ({"a": "\x0breceived-atl" + "x" * 8, "received-at": 2**40}, 2**40),
        ({"a": "\x0breceived-atl" + "x" * 8, "received-at": 7}, 7),
    ],
)
def test_a_header_is_read_as_it_stands(headers: dict[str, int | str], number: int | None) -> None:
    """Small or large, absent or of another type, and beside a text that looks like it."""
    properties = spec.Basic.Properties(headers=dict(headers)).marshal()
    assert EncodedHeader("received-at").number(properties) == number


@pytest.mark.parametrize("properties", [b"", b"\x20", b"\x20\x00\xff\xff\xff\xff", b"\xff\xff"])
def test_damaged_properties_have_no_headers(properties: bytes) -> None:
    """They stop nothing."""
    assert EncodedHeader("received-at").number(properties) is None
    assert EncodedHeader("received-at").text(properties) is None


LIBRARIES_OWN = re.compile(r"\.iterator\(|\.consume\(|basic_get\(|\.get\((?:no_ack|fail)=")


def test_no_part_of_the_bridge_has_a_library_read_messages() -> None:
    """Aiormq's reader ends, and the connection with it, at properties that pamqp cannot decode."""
    package = Path(bridge.__file__).parent
    assert [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if LIBRARIES_OWN.search(line)
    ] == []
