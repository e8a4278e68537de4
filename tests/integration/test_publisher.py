"""The confirmed publisher on a real RabbitMQ: every publish has an outcome, and it is the true one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import commands as spec

from bridge.amqp import channel_keeper, nack_monitor
from bridge.amqp import publisher as publisher_module
from bridge.amqp.connection import Link, open_connection
from bridge.amqp.message_types import make_message
from bridge.amqp.publish_channel import MAX_BYTES_IN_FLIGHT
from bridge.amqp.publish_errors import (
    ChannelClosedError,
    LostError,
    NackedError,
    NotConnectedError,
    ReturnedError,
    WindowFullError,
)
from bridge.amqp.publisher import Publisher
from bridge.settings.loading import load_settings
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Line


def outcomes(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": outcome}) or 0


def connects(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("bridge_broker_connects_total", {"use": "publish"}) or 0


def message(exchange: str, key: str, *, body: bytes = b"{}", message_id: str | None = None) -> Message:
    return make_message(exchange, key, spec.Basic.Properties(message_id=message_id, delivery_mode=2), body)


@pytest.fixture
async def line(settings: Settings, metrics: Metrics, rabbit: Rabbit) -> AsyncIterator[Line]:
    """A publisher whose exchange stands, with a queue for everything."""
    async with publishing(settings, metrics, exchange_alone(settings)) as opened:
        await opened.up()
        yield opened
    del rabbit  # it deletes the exchange


async def test_many_in_flight_are_all_confirmed_and_arrive_in_order(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """A thousand in one turn of the loop, large and small; RabbitMQ confirms many of them at once."""
    bodies = [b"%d" % number if number % 100 else b"%d" % number * 100_000 for number in range(1000)]
    async with rabbit.listening(rabbit.names.events, "#") as everything:
        confirms = [line.publisher.publish(message(rabbit.names.events, "any", body=body)) for body in bodies]
        assert line.publisher.in_flight == 1000
        await asyncio.gather(*confirms)
        assert [arrived.body for arrived in await everything.take(1000)] == bodies
    assert line.publisher.in_flight == 0
    assert outcomes(metrics, "confirmed") == 1000


async def test_a_confirm_of_many_takes_exactly_those_before_it(line: Line, rabbit: Rabbit) -> None:
    """`multiple` speaks of the tag and of every one before it that is still open, acked or nacked."""
    publisher = line.publisher
    confirms = [publisher.publish(message(rabbit.names.events, "any")) for _ in range(6)]
    channel = publisher._channels.current
    assert channel is not None
    channel.acked(2, multiple=False)
    channel.acked(3, multiple=True)
    channel.nacked(5, multiple=True)
    assert [confirm.done() for confirm in confirms] == [True] * 5 + [False]
    assert [confirm.exception() is None for confirm in confirms[:5]] == [True] * 3 + [False] * 2
    channel.acked(99, multiple=False)
    assert publisher.in_flight == 1, "a tag nobody knows is no confirm"
    await confirms[5]


async def test_a_queue_that_is_full_refuses(line: Line, rabbit: Rabbit, metrics: Metrics) -> None:
    """`reject-publish` comes back as a nack, for that message alone."""
    limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments=limits)
        await queue.bind(rabbit.names.events, "full")
        full = message(rabbit.names.events, "full", message_id="one")
        await line.publisher.publish(full)
        with pytest.raises(NackedError, match=r"basic\.nack"):
            await line.publisher.publish(full)
        await line.publisher.publish(message(rabbit.names.events, "other", message_id="two"))
    assert outcomes(metrics, "nacked") == 1


async def test_a_message_that_no_queue_takes_is_returned(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """RabbitMQ acks what it cannot route; the return that comes before says so, for that message alone."""
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        routable = message("", queue.name, message_id="routed", body=b"1" * 300_000)
        lost = message("", "nobody.has.this.queue", message_id="lost", body=b"2" * 300_000)
        confirms = [line.publisher.publish(one) for one in (routable, lost, routable)]
        found = await asyncio.gather(*confirms, return_exceptions=True)
    assert [type(outcome) for outcome in found] == [type(None), ReturnedError, type(None)]
    assert "NO_ROUTE" in str(found[1])
    assert (outcomes(metrics, "returned"), outcomes(metrics, "confirmed")) == (1, 2)


async def test_two_in_flight_with_one_id_both_have_an_outcome(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """A repeated event neither hangs nor steals the other's confirm (aio-pika#689)."""
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        routed = message("", queue.name, message_id="same")
        lost = message("", "nobody.has.this.queue", message_id="same")
        async with asyncio.timeout(90):
            both = [line.publisher.publish(routed) for _ in range(2)]
            assert await asyncio.gather(*both) == [None, None]
            both = [line.publisher.publish(lost) for _ in range(2)]
            found = await asyncio.gather(*both, return_exceptions=True)
            assert [type(outcome) for outcome in found] == [ReturnedError] * 2
            await eventually(lambda: connects(metrics) == 2)  # a return has the topology looked after
            both = [line.publisher.publish(one) for one in (lost, routed)]
            found = await asyncio.gather(*both, return_exceptions=True)
            assert sorted(type(outcome).__name__ for outcome in found) == ["NoneType", "ReturnedError"]
            await eventually(lambda: connects(metrics) == 3)
            await line.publisher.publish(routed)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1, 1, 0)], ids=str)
async def test_of_two_with_one_id_the_one_that_no_queue_takes_fails(
    line: Line, rabbit: Rabbit, metrics: Metrics, order: tuple[int, ...]
) -> None:
    """On different ways they are different messages: the routed ones are confirmed and the others fail, exactly."""
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        ways = [
            message("", queue.name, message_id="same", body=b"routed"),
            message("", "nobody.has.this.queue", message_id="same", body=b"lost"),
        ]
        async with asyncio.timeout(90):
            confirms = [line.publisher.publish(ways[way]) for way in order]
            found = await asyncio.gather(*confirms, return_exceptions=True)
        assert [type(outcome) for outcome in found] == [[type(None), ReturnedError][way] for way in order]
        assert await rabbit.depth(queue.name) == order.count(0)
    assert (outcomes(metrics, "confirmed"), outcomes(metrics, "returned")) == (order.count(0), order.count(1))


async def test_a_channel_that_the_broker_closes_comes_back(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """An exchange that is missing costs the channel: what was in flight fails, and the next is confirmed."""
    good = message(rabbit.names.events, "any", message_id="good")
    line.opened.clear()
    confirms = [
        line.publisher.publish(message(f"{rabbit.names.events}.missing", "any", message_id="bad")),
        line.publisher.publish(good),
    ]
    found = await asyncio.gather(*confirms, return_exceptions=True)
    assert [type(outcome) for outcome in found] == [ChannelClosedError] * 2
    await line.up()
    await line.publisher.publish(good)
    assert outcomes(metrics, "lost") == 2


def refused(exchange: str, *, body: bytes = b"{}") -> Message:
    """One over which RabbitMQ closes the channel: somebody else's user id."""
    properties = spec.Basic.Properties(message_id="refused", user_id="somebody", delivery_mode=2)
    return make_message(exchange, "any", properties, body)


async def test_a_message_that_rabbitmq_refuses_costs_the_channel_and_not_the_connection(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """What was in flight fails with RabbitMQ's own words; the next is confirmed on the same connection, again and again."""
    good = message(rabbit.names.events, "any", message_id="good")
    for _ in range(4):
        confirms = [line.publisher.publish(one) for one in (refused(rabbit.names.events), good)]
        found = await asyncio.gather(*confirms, return_exceptions=True)
        assert [type(outcome) for outcome in found] == [ChannelClosedError] * 2
        assert isinstance(found[0], ChannelClosedError)
        assert found[0].code == 406
        assert "user_id" in line.publisher.last_close_reason
        await line.publisher.ready()
        await line.publisher.publish(good)
        assert line.publisher.last_close_reason == ""
    assert connects(metrics) == 1
    assert (outcomes(metrics, "lost"), outcomes(metrics, "confirmed")) == (8, 4)


async def test_nothing_is_written_on_a_channel_that_is_closed(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """Under steady traffic, too, no frame goes out behind RabbitMQ's close: that would cost the connection (504)."""
    good = message(rabbit.names.events, "any")
    stop = asyncio.Event()

    async def steady() -> None:
        while not stop.is_set():
            with suppress(NotConnectedError, WindowFullError):
                line.publisher.publish(good)
            await asyncio.sleep(0)

    traffic = asyncio.create_task(steady())
    try:
        for _ in range(8):
            await line.publisher.ready()
            with pytest.raises(ChannelClosedError):
                await line.publisher.publish(refused(rabbit.names.events))
    finally:
        stop.set()
        await traffic
    await line.publisher.ready()
    await line.publisher.publish(good)
    assert connects(metrics) == 1


async def test_a_channel_is_replaced_without_a_loss(
    line: Line, rabbit: Rabbit, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one's confirms are waited for, and each confirms its own: tags begin anew with the channel."""
    # RabbitMQ may stand still for longer than a second.
    monkeypatch.setattr(channel_keeper, "_RETIRE_SECONDS", 20.0)
    async with rabbit.listening(rabbit.names.events, "#") as everything:
        confirms = []
        for number in range(5):
            bodies = [b"%d" % (100 * number + one) for one in range(100)]
            confirms += [
                line.publisher.publish(message(rabbit.names.events, "any", body=body)) for body in bodies
            ]
            await line.publisher.renew_channel()
        await asyncio.gather(*confirms)
        assert [one.body for one in await everything.take(500)] == [b"%d" % number for number in range(500)]
    assert (connects(metrics), outcomes(metrics, "confirmed")) == (1, 500)
    assert line.publisher.in_flight == 0


async def test_a_channel_that_is_nacked_for_long_is_replaced(
    line: Line, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever made RabbitMQ nack may be over, and only this channel not know it; confirms under another key say nothing."""
    monkeypatch.setattr(nack_monitor, "MAX_NACKING_SECONDS", 0.0)
    monkeypatch.setattr(channel_keeper, "_RETIRE_SECONDS", 20.0)  # as above
    limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with rabbit.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments=limits)
        await queue.bind(rabbit.names.events, "full")
        await line.publisher.publish(message(rabbit.names.events, "full"))
        before = line.publisher._channels.current
        with pytest.raises(NackedError):
            await line.publisher.publish(message(rabbit.names.events, "full"))
        await line.publisher.publish(message(rabbit.names.events, "other"))
        await eventually(lambda: line.publisher._channels.current is not before)
        await queue.purge()
        await line.publisher.publish(message(rabbit.names.events, "full"))


async def test_a_connection_that_is_lost_fails_what_is_in_flight(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """Nobody waits for a confirm that cannot come; after the reconnect publishing goes on."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            line.opened.clear()
            proxy.to_client.pause()
            confirm = line.publisher.publish(message(rabbit.names.events, "any"))
            proxy.refuse()
            with pytest.raises(LostError, match="before the confirm"):
                await confirm
            with pytest.raises(NotConnectedError, match="no connection"):
                line.publisher.publish(message(rabbit.names.events, "any"))
            proxy.resume()
            proxy.accept()
            await line.up()
            await line.publisher.publish(message(rabbit.names.events, "any"))


async def test_the_window_bounds_what_is_in_flight(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit
) -> None:
    """One more than `max_in_flight` is refused at once, and has room again after a confirm."""
    overrides["receiver"]["max_in_flight"] = 2
    settings = load_settings(overrides=overrides)
    async with publishing(settings, metrics, exchange_alone(settings)) as line:
        await line.up()
        one = message(rabbit.names.events, "any")
        confirms = [line.publisher.publish(one) for _ in range(2)]
        with pytest.raises(WindowFullError, match=r"2 messages \(4 bytes\) wait"):
            line.publisher.publish(one)
        await asyncio.gather(*confirms)
        await line.publisher.publish(one)


async def test_the_window_bounds_the_bytes_in_flight(
    overrides: dict[str, Any],
    metrics: Metrics,
    amqp_url: str,
    rabbit: Rabbit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that does not confirm costs no more memory than that, whatever the messages are; confirms make room."""
    monkeypatch.setattr(publisher_module, "UNRESPONSIVE_SECONDS", 60.0)  # 64 MB may take longer than 5 s
    piece = b"x" * (MAX_BYTES_IN_FLIGHT // 8)
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            proxy.to_client.pause()
            one = message(rabbit.names.events, "any", body=piece)
            confirms = [line.publisher.publish(one) for _ in range(8)]
            with pytest.raises(WindowFullError, match=rf"8 messages \({MAX_BYTES_IN_FLIGHT} bytes\) wait"):
                line.publisher.publish(message(rabbit.names.events, "any"))
            assert line.publisher.in_flight == 8
            proxy.resume()
            await asyncio.gather(*confirms)
            await line.publisher.publish(one)
    assert outcomes(metrics, "confirmed") == 9


async def test_the_window_is_empty_again_after_a_loss(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """What was in flight on a connection that is gone counts neither as messages nor as bytes."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        overrides["receiver"]["max_in_flight"] = 2
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            line.opened.clear()
            proxy.to_client.pause()
            large = message(rabbit.names.events, "any", body=b"x" * (MAX_BYTES_IN_FLIGHT // 2))
            confirms = [line.publisher.publish(large) for _ in range(2)]
            proxy.cut()
            found = await asyncio.gather(*confirms, return_exceptions=True)
            assert [type(outcome) for outcome in found] == [LostError] * 2
            proxy.resume()
            await line.up()
            one = message(rabbit.names.events, "any")
            await asyncio.gather(*(line.publisher.publish(one) for _ in range(2)))


async def test_a_confirm_that_comes_after_its_session_has_ended_confirms_nothing(
    metrics: Metrics, settings: Settings, amqp_url: str, rabbit: Rabbit
) -> None:
    """Tags begin anew with each session: a late one from a connection that is not closed yet speaks of nothing here."""
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = Publisher(link, max_in_flight=10, stalled_after=10, metrics=metrics)
    late, waits = (message(rabbit.names.events, "any", message_id=one) for one in ("late", "waits"))

    @asynccontextmanager
    async def session(proxy: Proxy) -> AsyncIterator[AbstractConnection]:
        connection = await open_connection(proxy.url(amqp_url), name="a test")
        publishes = asyncio.create_task(publisher.session(connection))
        await eventually(lambda: publisher.usable)
        yield connection
        publishes.cancel()
        with suppress(asyncio.CancelledError):
            await publishes

    async with Proxy.serve(amqp_url) as first, Proxy.serve(amqp_url) as second:
        await exchange_alone(settings)(rabbit.connection)
        async with session(first) as ended:
            first.to_client.pause()
            sent = first.to_server.passed
            lost = publisher.publish(late)
            await eventually(lambda: first.to_server.passed > sent)
        with pytest.raises(LostError):
            await lost
        async with session(second) as open_now:
            second.to_client.pause()
            waiting = publisher.publish(waits)
            first.to_client.resume()
            async with ended.channel():  # its answer comes after the confirm that was held back
                confirmed = waiting.done()
            second.to_client.resume()
            await waiting
        await ended.close()
        await open_now.close()
    assert not confirmed, "only its own confirm says that it is in RabbitMQ"


async def test_a_broker_that_hangs_in_the_middle_of_a_message_is_given_up_for_the_next(
    overrides: dict[str, Any],
    metrics: Metrics,
    amqp_url: str,
    rabbit: Rabbit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it does not read any more is not waited for: neither to end its session, nor to close its connection."""
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
            large = message(rabbit.names.events, "any", body=b"x" * (MAX_BYTES_IN_FLIGHT // 2))
            with pytest.raises(LostError):
                await line.publisher.publish(large)
            monkeypatch.undo()  # on a busy machine a confirm may take so long
            await line.up()
            await line.publisher.publish(message(rabbit.names.events, "any"))


async def test_a_publish_that_is_given_up_is_counted_by_what_becomes_of_it(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """Giving up the wait does not take the publish back: its outcome is counted when it has one, not before."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            proxy.to_client.pause()
            one, sent = message(rabbit.names.events, "any"), proxy.to_server.passed
            line.publisher.publish(one).cancel()
            goes_on = line.publisher.publish(one)
            await eventually(lambda: proxy.to_server.passed > sent)
            before = outcomes(metrics, "confirmed")
            proxy.resume()
            await goes_on
            assert before == 0
            assert outcomes(metrics, "confirmed") == 2
            assert line.publisher.in_flight == 0


async def test_settling_waits_for_confirms_that_nobody_waits_for_any_more(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """What was given up is still owed a confirm; waiting for it leaves the loop free, and ends with it."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            proxy.to_client.pause()
            line.publisher.publish(message(rabbit.names.events, "any")).cancel()
            settling = asyncio.create_task(line.publisher.wait_until_idle())
            await eventually(lambda: line.publisher.in_flight == 1)
            assert not settling.done()
            proxy.resume()
            async with asyncio.timeout(90):
                await settling


async def test_a_return_is_looked_after_under_steady_traffic_too(
    line: Line, rabbit: Rabbit, metrics: Metrics
) -> None:
    """The next session mends the topology, although there is never a moment without a publish in flight."""
    lost = message("", "nobody.has.this.queue")
    good = message(rabbit.names.events, "any")
    stop = asyncio.Event()

    async def steady() -> None:
        while not stop.is_set():
            with suppress(NotConnectedError, WindowFullError):
                line.publisher.publish(good)
            await asyncio.sleep(0)

    traffic = asyncio.create_task(steady())
    try:
        line.publisher.publish(lost)
        await eventually(lambda: connects(metrics) == 2)
    finally:
        stop.set()
        await traffic
