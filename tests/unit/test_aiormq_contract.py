"""What `bridge.broker.internals` uses of aiormq and aio-pika beyond their documented interface.

These fail when an upgrade changes it. What it does on a real broker is in `tests/integration/test_publisher.py`
and `test_link.py`.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from bridge.broker import internals
from bridge.broker.internals import BLOCKED_HANDLER, UNBLOCKED_HANDLER, ConfirmChannel, open_confirm_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("ack", delivery_tag, multiple))

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("nack", delivery_tag, multiple))

    def returned(self, message_id: str, reason: str) -> None:
        self.told.append(("return", message_id, reason))


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """A connection that has agreed on its limits, without a socket."""
    made = Connection("amqp://guest:guest@127.0.0.1:1/")
    made.connection_tune = spec.Connection.Tune(channel_max=10, frame_max=131072, heartbeat=0)
    made.server_properties = {"capabilities": {"publisher_confirms": True}}
    yield made
    for channel in tuple(made.channels.values()):
        assert isinstance(channel, ConfirmChannel)
        channel._close_locally()


@pytest.fixture
def channel(connection: Connection) -> ConfirmChannel:
    made = ConfirmChannel(connection, 1, publisher_confirms=True)
    connection.channels[1] = made
    return made


async def test_the_channels_own_reader_hands_confirms_and_returns_on(channel: ConfirmChannel) -> None:
    """The frames go where aiormq's reader puts them, through the methods that we stand in for."""
    channel.listener = heard = Heard()
    returned = spec.Basic.Return(312, "NO_ROUTE", "exchange", "key")
    frames = [
        spec.Basic.Ack(delivery_tag=1, multiple=False),
        spec.Basic.Ack(delivery_tag=9, multiple=True),
        spec.Basic.Nack(delivery_tag=10, multiple=True),
        returned,
        ContentHeader(body_size=4, properties=spec.Basic.Properties(message_id="an-id")),
        ContentBody(b"ab"),
        ContentBody(b"cd"),
        returned,
        ContentHeader(body_size=0, properties=spec.Basic.Properties()),
        spec.Basic.Ack(delivery_tag=11, multiple=False),
    ]
    for frame in frames:
        channel.frames.put_nowait((0, frame))
    async with asyncio.timeout(5):
        await channel.frames.join()
    assert heard.told == [
        ("ack", 1, False),
        ("ack", 9, True),
        ("nack", 10, True),
        ("return", "an-id", "NO_ROUTE"),
        ("return", "", "NO_ROUTE"),
        ("ack", 11, False),
    ]


async def test_a_channel_has_what_the_publisher_uses(connection: Connection, channel: ConfirmChannel) -> None:
    """Its number, the counter of tags, the size of a frame, the queue that is written from."""
    assert channel.number == 1
    assert channel.delivery_tag == 0
    assert channel.max_content_size == 131072 - 8
    assert channel.write_queue is connection.write_queue
    assert asyncio.isfuture(channel.closing)
    frame = ChannelFrame(payload=b"bytes", should_close=False)
    assert (frame.payload, frame.should_close, frame.should_drain) == (b"bytes", False, False)


async def test_a_channel_is_opened_in_confirm_mode_under_a_free_number(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `Connection.channel` does, and where the connection's reader will look for it."""
    opened: list[Channel] = []

    async def open_channel(self: Channel) -> None:
        opened.append(self)

    monkeypatch.setattr(Channel, "open", open_channel)
    monkeypatch.setattr(internals, "_aiormq_connection", lambda _: connection)
    listener = Heard()
    numbers = []
    for _ in range(3):
        made = await open_confirm_channel(object(), listener)  # type: ignore[arg-type]  # stands for a connection
        assert connection.channels[made.number] is made
        assert made.publisher_confirms
        assert made.listener is listener
        numbers.append(made.number)
    assert numbers == [1, 2, 3]
    assert len(opened) == 3


def test_the_methods_we_stand_in_for_are_called_by_the_reader() -> None:
    """By these names, on the channel, with the frame alone."""
    reader = inspect.getsource(Channel._reader)
    for method in ("_on_confirm_frame", "_on_return_frame"):
        assert f"await self.{method}(frame)" in reader
        ours, theirs = getattr(ConfirmChannel, method), getattr(Channel, method)
        assert ours is not theirs
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_the_alarm_handlers_are_called_by_the_reader_on_the_connection() -> None:
    """As attributes of the object, so that one of ours, set on it, is the one that is called."""
    reader = inspect.getsource(vars(Connection)["_Connection__reader"])
    for mangled in (BLOCKED_HANDLER, UNBLOCKED_HANDLER):
        assert inspect.iscoroutinefunction(getattr(Connection, mangled))
        assert f"await self.{mangled.removeprefix('_Connection')}(frame)" in reader


def test_a_connection_tells_the_broker_that_it_wants_to_hear_of_alarms() -> None:
    """RabbitMQ sends `connection.blocked` only to clients that say so."""
    properties = Connection._client_properties
    assert '"connection.blocked": True' in inspect.getsource(properties)
