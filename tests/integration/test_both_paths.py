"""The same contract holds on the fast path and on the plain path: publishes and deliveries, on a real broker."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from pamqp import commands as spec

from bridge import events
from bridge.amqp import publisher as publisher_module
from bridge.amqp.connection import Link, open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError, wait_closed
from bridge.amqp.message_path import path_of
from bridge.amqp.message_types import Message, make_message
from bridge.amqp.properties import decode_properties
from bridge.amqp.publish_errors import ChannelClosedError, LostError, NackedError, ReturnedError
from bridge.broker.messages import event_message
from bridge.settings.loading import load_settings
from bridge.tasks import background_task, wait_while_running
from tests.support.dead_letters import ids, move_to_dead_letters
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, publishing
from tests.support.undecodable import entry, properties, put, text
from tests.support.working import body_of, bounced, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.amqp.publish_errors import PublishError
    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Line
    from tests.support.working import Workplace

pytestmark = pytest.mark.usefixtures("path")

LARGE = 300_000
"""Size of a body that needs several frames, in bytes."""


@pytest.fixture
async def line(settings: Settings, metrics: Metrics, rabbit: Rabbit, path: str) -> AsyncIterator[Line]:
    """A publisher, and the exchange to which it publishes."""
    assert path
    async with publishing(settings, metrics, exchange_alone(settings)) as opened:
        await opened.up()
        yield opened
    del rabbit  # it deletes the exchange


@pytest.fixture
async def connection(amqp_url: str, path: str) -> AsyncIterator[AbstractConnection]:
    async with await open_connection(amqp_url, name="test") as opened:
        assert type(path_of(opened)).__module__.endswith("internals" if path == "fast" else "plain_path")
        yield opened


def message(exchange: str, key: str, *, body: bytes = b"{}", message_id: str | None = None) -> Message:
    return make_message(exchange, key, spec.Basic.Properties(message_id=message_id, delivery_mode=2), body)


def outcomes(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": outcome}) or 0


def connects(metrics: Metrics, use: str = "publish") -> float:
    return metrics.registry.get_sample_value("bridge_broker_connects_total", {"use": use}) or 0


async def outcomes_of(line: Line, *messages: Message) -> list[type]:
    """The outcomes of these publishes, all in flight at once."""
    confirms = [line.publisher.publish(one) for one in messages]
    async with asyncio.timeout(90):
        return [type(one) for one in await asyncio.gather(*confirms, return_exceptions=True)]


# Publishing.


async def test_many_in_flight_are_all_confirmed_and_arrive_in_order(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """Sent in one iteration of the loop: an empty body, small ones, and some of several frames."""
    bodies = [b"%d" % number if number % 50 else b"%d" % number * LARGE for number in range(300)] + [b""]
    async with rabbit.listening(rabbit.names.events, "#") as everything:
        assert set(
            await outcomes_of(line, *(message(rabbit.names.events, "any", body=one) for one in bodies))
        ) == {type(None)}
        assert [arrived.body for arrived in await everything.take(len(bodies))] == bodies
    assert (line.publisher.in_flight, outcomes(metrics, "confirmed")) == (0, len(bodies))


async def test_an_event_arrives_with_all_its_properties(line: Line, rabbit: Rabbit) -> None:
    """Every property and header, with their types, and under the second routing key (`CC`)."""
    body = body_of("complained", 7)
    sent = event_message(events.parse(body), body, exchange=rabbit.names.events, received_at=1539062173017)
    async with rabbit.listening(rabbit.names.events, "complained", "complined") as heard:
        await line.publisher.publish(sent)
        arrived = await heard.next()
    assert arrived.body == body
    expected = decode_properties(sent.properties)
    assert dict(arrived.headers) == expected.headers
    assert (arrived.message_id, arrived.type, arrived.app_id) == (sent.message_id, "complained", "bridge")
    assert (arrived.content_type, arrived.delivery_mode) == ("application/json", 2)
    assert arrived.timestamp == expected.values["timestamp"]


@pytest.mark.parametrize("order", ["routed lost", "lost routed", "lost lost routed lost routed"])
async def test_an_unroutable_message_is_returned(
    line: Line, rabbit: Rabbit, metrics: Metrics, order: str
) -> None:
    """Only that message, though others with its id are in flight: aiormq matches returns by nothing else."""
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        one_of = {
            "routed": message("", queue.name, message_id="same", body=b"1" * LARGE),
            "lost": message("", "nobody.has.this.queue", message_id="same", body=b"2" * LARGE),
        }
        expected = [type(None) if word == "routed" else ReturnedError for word in order.split()]
        assert await outcomes_of(line, *(one_of[word] for word in order.split())) == expected
        assert await rabbit.depth(queue.name) == expected.count(type(None))
    assert outcomes(metrics, "returned") == expected.count(ReturnedError)


async def test_an_unroutable_message_without_mandatory_is_confirmed(line: Line) -> None:
    """Without `mandatory` RabbitMQ does not report that no queue took it."""
    assert await outcomes_of(line, message("", "nobody.has.this.queue")._replace(mandatory=False)) == [
        type(None)
    ]


async def test_a_message_for_a_full_queue_is_nacked(line: Line, rabbit: Rabbit, metrics: Metrics) -> None:
    """`reject-publish` causes a nack, for that message only."""
    limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments=limits)
        await queue.bind(rabbit.names.events, "full")
        full, other = (message(rabbit.names.events, key) for key in ("full", "other"))
        await line.publisher.publish(full)
        assert await outcomes_of(line, full, other) == [NackedError, type(None)]
    assert outcomes(metrics, "nacked") == 1


async def test_a_message_that_closes_the_channel_fails_with_the_reason_and_the_next_is_confirmed(
    line: Line, rabbit: Rabbit
) -> None:
    """RabbitMQ's own code and text: by them the refused message is found."""
    properties = spec.Basic.Properties(message_id="refused", user_id="somebody", delivery_mode=2)
    good = message(rabbit.names.events, "any", message_id="good")
    for _ in range(3):
        with pytest.raises(ChannelClosedError, match="user_id") as refused:
            await line.publisher.publish(make_message(rabbit.names.events, "any", properties, b"{}"))
        assert refused.value.code == 406
        async with asyncio.timeout(90):
            await line.publisher.ready()
            await line.publisher.publish(good)


async def test_a_channel_is_replaced_without_a_loss(line: Line, rabbit: Rabbit, metrics: Metrics) -> None:
    """The confirms of the old one are waited for. Each channel counts its delivery tags from 1."""
    one = message(rabbit.names.events, "any")
    confirms = []
    for _ in range(3):
        confirms += [line.publisher.publish(one) for _ in range(50)]
        await line.publisher.renew_channel()
    await asyncio.gather(*confirms)
    assert (connects(metrics), outcomes(metrics, "confirmed"), line.publisher.in_flight) == (1, 150, 0)


async def test_a_connection_that_is_lost_fails_what_is_in_flight(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """No caller waits for a confirm that cannot arrive; after the reconnect publishing goes on."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            line.opened.clear()
            proxy.to_client.pause()
            confirms = [line.publisher.publish(message(rabbit.names.events, "any")) for _ in range(20)]
            proxy.cut()
            found = await asyncio.gather(*confirms, return_exceptions=True)
            assert [type(one) for one in found] == [LostError] * 20
            proxy.resume()
            await line.up()
            assert await outcomes_of(line, message(rabbit.names.events, "any")) == [type(None)]


async def test_a_broker_that_hangs_with_unsent_bytes_is_given_up_for_the_next(
    overrides: dict[str, Any],
    metrics: Metrics,
    amqp_url: str,
    rabbit: Rabbit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection is abandoned, and its close is not waited for."""
    monkeypatch.setattr(publisher_module, "UNRESPONSIVE_SECONDS", 0.5)
    async with Proxy.serve(amqp_url) as hanging:
        overrides["rabbitmq"]["urls"] = [hanging.url(amqp_url), amqp_url]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            line.opened.clear()
            hanging._refusing = True  # without cutting what is open
            for writer in hanging._writers:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
            with pytest.raises(LostError):
                await line.publisher.publish(message(rabbit.names.events, "any", body=b"x" * 2**25))
            monkeypatch.undo()  # on a busy machine a confirm may take so long
            await line.up()
            assert await outcomes_of(line, message(rabbit.names.events, "any")) == [type(None)]


@pytest.mark.parametrize("bug", [KeyError("a name"), OSError("a disk is full")], ids=repr)
async def test_a_bug_in_a_confirm_callback_ends_the_link(
    settings: Settings, metrics: Metrics, rabbit: Rabbit, bug: Exception
) -> None:
    """Its error is neither swallowed nor taken for a lost connection."""
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_module.Publisher(link, max_in_flight=10, stalled_after=10, metrics=metrics)

    def outcome(_: PublishError | None) -> None:
        raise bug

    async def session(connection: AbstractConnection) -> None:
        await exchange_alone(settings)(connection)
        await publisher.session(connection)

    async with background_task(link.run(session), name="publish") as publish:
        await wait_while_running(link.up, publish)
        publisher.send(message(rabbit.names.events, "any"), outcome)
        await asyncio.wait([publish])
    with pytest.raises(type(bug)) as raised:
        publish.result()
    assert raised.value is bug


async def test_the_reason_of_a_closed_connection_is_reported(
    settings: Settings, metrics: Metrics, prefix: str, control: Control
) -> None:
    """In RabbitMQ's own words."""
    link = Link(settings.rabbitmq, use=f"publish-{prefix}", metrics=metrics)
    closed: list[str] = []

    async def session(connection: AbstractConnection) -> None:
        if closed:
            return
        try:
            link.opened()
            await wait_closed(connection)
        except BrokerUnavailableError as error:
            closed.append(str(error))
            raise

    async with background_task(link.run(session), name="publish") as publish:
        await wait_while_running(link.up, publish)
        await control.close_connections(f"bridge publish-{prefix}")
        await asyncio.wait([publish])
    assert closed == ["RabbitMQ closed the connection: 320 CONNECTION_FORCED - a test"]


# Deliveries.


async def test_a_delivery_is_the_message_that_was_published(
    connection: AbstractConnection, rabbit: Rabbit, workplace: Workplace
) -> None:
    """Exchange, routing key, body, and the same decoded properties."""
    assert workplace
    body = body_of("hard_bounced", 1)
    sent = event_message(events.parse(body), body, exchange=rabbit.names.events, received_at=1539062173017)
    await workplace.send(body)
    await workplace.put(b"x" * LARGE, message_id="large", headers={"deep": {"list": [1, "two", None, True]}})
    await workplace.put(b"", message_id="empty")
    async with Deliveries.open(connection, rabbit.names.suppression, prefetch=10) as deliveries:
        found: list[Delivery] = []
        async with asyncio.timeout(90):
            while len(found) < 3:
                found += await deliveries.receive(1)
        event, large, empty = found
    assert (event.tag, event.redelivered) == (1, False)
    assert (event.exchange, event.routing_key) == (rabbit.names.events, "hard_bounced")
    assert event.body == body
    assert decode_properties(event.properties).headers == {
        name: value
        for name, value in decode_properties(sent.properties).headers.items()
        if name != "received-at"
    } | {"received-at": 1539062173000}
    assert decode_properties(event.properties).message_id == sent.message_id
    assert (large.body, decode_properties(large.properties).headers) == (
        b"x" * LARGE,
        {"deep": {"list": [1, "two", None, True]}},
    )
    assert (empty.body, decode_properties(empty.properties).message_id) == (b"", "empty")


async def test_headers_that_pamqp_cannot_encode_end_no_connection(
    line: Line, connection: AbstractConnection, rabbit: Rabbit
) -> None:
    """Such messages are delivered and published; on the plain path only that header is missing."""
    headers = entry(b"large", b"d", struct.pack(">d", 2.0**1000)) + entry(b"note", b"S", text(b"kept"))
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(auto_delete=False)
        sent = Message("", queue.name, "an-id", properties(headers, message_id=b"an-id"), b"body")
        assert await outcomes_of(line, sent) == [type(None)]
        await put(rabbit, queue.name, properties(headers, message_id=b"an-id"), b"body")
        async with Deliveries.open(connection, queue.name, prefetch=10) as deliveries, asyncio.timeout(90):
            for _ in range(2):
                (one,) = await deliveries.receive(1)
                assert decode_properties(one.properties).headers["note"] == "kept"
                assert (decode_properties(one.properties).message_id, one.body) == ("an-id", b"body")
        await queue.delete(if_unused=False, if_empty=False)


async def test_acknowledged_messages_are_gone_and_the_rest_is_requeued(
    connection: AbstractConnection, rabbit: Rabbit, workplace: Workplace
) -> None:
    """RabbitMQ applies the acknowledgements before the channel is closed."""
    await move_to_dead_letters(rabbit, range(100))
    taking = Deliveries.open(connection, rabbit.names.dead, prefetch=100, acknowledge_every=None)
    async with taking as deliveries:
        left = 100
        while left:
            for delivery in await deliveries.receive():
                left -= 1
                if left >= 10:
                    await deliveries.acknowledge(delivery)
    await connection.close()
    async with asyncio.timeout(90):
        while await rabbit.depth(rabbit.names.dead) < 10:  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(0.02)
    assert [letter.message_id for letter in await workplace.dead()] == ids(range(90, 100))


async def test_deleting_the_queue_ends_its_consumer(connection: AbstractConnection, rabbit: Rabbit) -> None:
    """What arrived before is still received; then it is an error."""
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(auto_delete=False)
        await channel.default_exchange.publish(aio_pika.Message(b"body"), routing_key=queue.name)
        async with Deliveries.open(connection, queue.name, prefetch=10, acknowledge_every=None) as deliveries:
            async with asyncio.timeout(90):
                (one,) = await deliveries.receive()
                await queue.delete(if_unused=False, if_empty=False)
                with pytest.raises(BrokerUnavailableError, match="cancelled"):
                    await deliveries.receive()
    assert one.body == b"body"


async def test_a_hard_bounce_is_listed_and_a_failure_is_retried(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, path: str
) -> None:
    """A failed message waits in a delay queue, is retried, and becomes a dead letter."""
    assert path
    overrides = changed(overrides, provider={"unknown_grace": 0.5})
    simulator.message(2)["to"] = ""
    async with working(load_settings(overrides=overrides)):
        await workplace.send(*bounces([1, 2, 987_654]))
        await workplace.changes(1)
        async with asyncio.timeout(90):
            while not (dead := await workplace.dead()):  # noqa: ASYNC110 -- RabbitMQ does not tell
                await asyncio.sleep(0.05)
        simulator.message(2)["to"] = "recipient2@example.org"
        await workplace.changes(2)
    assert await workplace.listed() == bounced([1, 2])
    assert [letter.body for letter in dead] == bounces([987_654])
    assert dead[0].headers["dead-reason"] == "unknown-message"
    assert dead[0].headers["cloudEvents:subject"] == "987654"
    assert await workplace.left() == []
