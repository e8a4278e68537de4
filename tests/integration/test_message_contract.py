"""What a consumer reads: every property and header, the keys an event is routed by, and where it is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aio_pika
import pytest

from bridge import events
from bridge.receiver import durability
from bridge.spool import stall
from tests.support.receiving import designed, receiving
from tests.support.wire import ask, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Receiving

pytestmark = pytest.mark.quick

AT = 1539062173
ODD = b' {"event" :{"data":null, "name":"%s","timestamp":1539062173},\n"message":{ "id":77 } , "new":[1]} '
"""An event with its own white space, order and one field more: the bytes shall arrive as they are."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may take a second for an fsync."""
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 20.0)
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60.0)


@pytest.fixture
async def receiver(settings: Settings, metrics: Metrics, rabbit: Rabbit) -> AsyncIterator[Receiving]:
    """A receiver on all that the design names."""
    async with receiving(settings, metrics, designed(settings)) as listening:
        await listening.line.up()
        yield listening
    del rabbit  # it deletes what was declared


async def accepted(receiver: Receiving, body: bytes) -> str:
    answer = await ask(receiver.port, post(body))
    assert answer.json["durability"] == "confirmed"
    return str(answer.json["id"])


async def test_an_event_has_every_property_and_header(receiver: Receiving, rabbit: Rabbit) -> None:
    """Properties for AMQP's own consumers, headers for CloudEvents; nothing else."""
    body = ODD % b"clicked"
    before = datetime.now(UTC)
    async with rabbit.listening(rabbit.names.events, "clicked") as clicked:
        event_id = await accepted(receiver, body)
        message = await clicked.next()
    assert message.body == body
    assert message.exchange == rabbit.names.events
    assert message.routing_key == "clicked"
    assert message.content_type == "application/json"
    assert message.content_encoding is None
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert message.type == "clicked"
    assert message.timestamp == datetime.fromtimestamp(AT, UTC)
    assert message.message_id == event_id == events.parse(body).id
    assert message.app_id == "bridge"
    headers = dict(message.headers)
    received = headers.pop("received-at")
    assert isinstance(received, int)
    assert before.timestamp() * 1000 - 1 <= received <= datetime.now(UTC).timestamp() * 1000
    assert headers == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": event_id,
        "cloudEvents:source": "/webhooks/msndr",
        "cloudEvents:type": "clicked",
        "cloudEvents:time": "2018-10-09T05:16:13Z",
        "cloudEvents:subject": "77",
    }


async def test_every_event_arrives_under_its_own_name(receiver: Receiving, rabbit: Rabbit) -> None:
    """All eight, and one that nobody knows: the key and the type are the name, and the bytes are untouched."""
    names = [*sorted(events.KNOWN_NAMES), "teleported", "a.b c/ü"]
    async with rabbit.listening(rabbit.names.events, "#") as everything:
        ids = [await accepted(receiver, ODD % name.encode()) for name in names]
        messages = await everything.take(len(names))
    assert [message.routing_key for message in messages] == names
    assert [message.type for message in messages] == names
    assert [message.message_id for message in messages] == ids
    assert [message.body for message in messages] == [ODD % name.encode() for name in names]


@pytest.mark.parametrize("spelling", ["complained", "complined"])
async def test_a_complaint_reaches_either_spelling_once(
    receiver: Receiving, rabbit: Rabbit, spelling: str
) -> None:
    """However the provider spells it, a queue bound to one name or to both gets exactly one copy."""
    exchange = rabbit.names.events
    async with (
        rabbit.listening(exchange, "complained") as english,
        rabbit.listening(exchange, "complined") as russian,
        rabbit.listening(exchange, "complained", "complined", "#") as both,
    ):
        event_id = await accepted(receiver, ODD % spelling.encode())
        await accepted(receiver, ODD % b"opened")
        for listener in (english, russian, both):
            message = await listener.next()
            assert message.message_id == event_id
            assert message.routing_key == "complained"
            assert message.type == "complained"
            assert message.headers["cloudEvents:type"] == "complained"
            assert message.headers["CC"] == ["complined"]
            assert message.body == ODD % spelling.encode()
        assert (await both.next()).type == "opened", "the marker came next, so nothing came twice"
        assert (english.waiting, russian.waiting) == (0, 0)


async def test_both_spellings_are_one_event(receiver: Receiving) -> None:
    """The same complaint in either spelling has one id, so a consumer can drop the second."""
    assert await accepted(receiver, ODD % b"complained") == await accepted(receiver, ODD % b"complined")


async def test_a_repeat_has_the_same_id_and_another_event_has_not(
    receiver: Receiving, rabbit: Rabbit
) -> None:
    """At least once, with one identity, also when the repeat is written in another way."""
    respelt = b'{"message":{"id":77},"event":{"timestamp":1539062173,"name":"opened"}}'
    other = b'{"message":{"id":78},"event":{"timestamp":1539062173,"name":"opened"}}'
    async with rabbit.listening(rabbit.names.events, "opened") as opened:
        for body in (ODD % b"opened", ODD % b"opened", respelt, other):
            await accepted(receiver, body)
        first, repeat, again, another = [message.message_id for message in await opened.take(4)]
    assert first == repeat == again != another


async def test_every_event_is_kept_in_the_archive(receiver: Receiving, rabbit: Rabbit) -> None:
    """Nobody need be bound for it: the stream has known names, new names and what is malformed."""
    bodies = [ODD % b"delivered", ODD % b"teleported", b"[]"]
    for body in bodies:
        await ask(receiver.port, post(body))
    assert await archived(rabbit, len(bodies)) == bodies
    assert await rabbit.depth(rabbit.names.unrouted) == 0


async def test_what_is_malformed_is_in_quarantine_with_bytes_and_reason(
    receiver: Receiving, rabbit: Rabbit
) -> None:
    """`email.malformed` has the body as it came, and why it could not be read."""
    body = b' {"message": {"id": null}, "event": {}} '
    before = datetime.now(UTC)
    async with rabbit.reading(rabbit.names.malformed) as quarantine:
        answers = [await ask(receiver.port, post(body)) for _ in range(2)]
        message, repeat = await quarantine.take(2)
    assert message.body == body
    assert message.routing_key == "malformed"
    assert message.type == "malformed"
    assert message.app_id == "bridge"
    assert message.content_type == "application/json"
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert message.message_id == repeat.message_id == events.digest(body)
    assert message.headers["malformed-reason"] == answers[0].json["reason"]
    assert message.headers.keys() == {"malformed-reason", "received-at"}
    assert message.timestamp is not None
    assert abs((message.timestamp - before).total_seconds()) < 60


async def test_only_what_is_malformed_is_in_quarantine(receiver: Receiving, rabbit: Rabbit) -> None:
    """No event can reach the quarantine by its name."""
    await accepted(receiver, ODD % b"opened")
    answer = await ask(receiver.port, post(ODD % b"malformed"))
    assert answer.json["status"] == "quarantined", "the name is ours, so this is no event"
    async with rabbit.reading(rabbit.names.malformed) as quarantine:
        assert (await quarantine.next()).body == ODD % b"malformed"
        assert quarantine.waiting == 0


async def test_what_no_queue_is_bound_for_is_kept_as_unrouted(receiver: Receiving, rabbit: Rabbit) -> None:
    """Without its archive (deleted by hand), the exchange hands on to `email.unrouted`, and it is a 200."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.archive)
    async with rabbit.reading(rabbit.names.unrouted) as unrouted:
        event_id = await accepted(receiver, ODD % b"opened")
        message = await unrouted.next()
    assert message.message_id == event_id
    assert message.routing_key == "opened"
    assert message.body == ODD % b"opened"


async def test_what_nothing_at_all_takes_is_not_answered_confirmed(
    receiver: Receiving, rabbit: Rabbit
) -> None:
    """No archive and no alternate exchange: RabbitMQ acks and drops, and the event is in the spool."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.archive)
        await channel.queue_delete(rabbit.names.unrouted)
    answer = await ask(receiver.port, post(ODD % b"opened"))
    assert answer.json["durability"] == "spooled"


async def archived(rabbit: Rabbit, count: int) -> list[bytes]:
    """The first bodies of the archive stream."""
    arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with rabbit.channel() as channel:
        await channel.set_qos(prefetch_count=100)
        stream = await channel.get_queue(rabbit.names.archive)
        await stream.consume(arrivals.put, arguments={"x-stream-offset": "first"})
        async with asyncio.timeout(90):
            return [(await arrivals.get()).body for _ in range(count)]
