"""The consumers of docs/consumers under real traffic: killed, cut off and stopped, and each event has its effect once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from bridge.broker.messages import message_from_body
from bridge.development.emission import event_body
from bridge.settings.loading import load_settings
from tests.support.consumers import FOLDER, Consumer
from tests.support.proxy import Proxy
from tests.support.receiving import designed, publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.amqp.message_types import Message
    from bridge.telemetry.metrics import Metrics
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Line

EVENTS = 10_000
REPEATED = 500
QUEUE = "crm"
DELIVERY_LIMIT = 5
AMQP_10_SINCE = 4
"""The version of RabbitMQ that speaks AMQP 1.0 without a plugin."""
LATENCY_SECONDS = 0.015
"""So that a hundred events at once, the consumers' prefetch, take long enough to be killed among them."""
NAMES = ("delivered", "opened", "clicked", "unsubscribed", "complained")


def message(number: int, exchange: str) -> Message:
    body = event_body(NAMES[number % len(NAMES)], number, 1539062173, {})
    return message_from_body(body, exchange=exchange, received_at=1539062174000)


@pytest.fixture(params=["python_aio_pika.py", "python_pika.py", "node_amqplib.mjs", "node_amqp10.mjs"])
async def consumer(
    request: pytest.FixtureRequest, amqp_url: str, control: Control, prefix: str, proxy: Proxy
) -> AsyncIterator[Consumer]:
    """Each of them, behind a proxy, on the queue of a subscriber."""
    name = str(request.param)
    if "amqp10" in name and int((await control.version()).partition(".")[0]) < AMQP_10_SINCE:
        pytest.skip(f"AMQP 1.0 needs RabbitMQ {AMQP_10_SINCE}, and this is {await control.version()}")
    modules = request.getfixturevalue("npm_packages") if name.endswith(".mjs") else None
    url = proxy.url(amqp_url).rstrip("/")
    # In memory: a kill -9 loses nothing there, either, and ten thousand times fsync on a disk take long.
    with TemporaryDirectory(dir="/dev/shm") as folder:
        async with Consumer(name, Path(folder), modules, AMQP_URL=url, QUEUE=f"{prefix}{QUEUE}") as copied:
            yield copied


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.serve(amqp_url) as running:
        yield running


@pytest.fixture
async def line(overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit) -> AsyncIterator[Line]:
    """The bridge's publisher, and a subscriber as its settings declare it."""
    subscriber = {"queue": QUEUE, "events": ["*"], "delivery_limit": DELIVERY_LIMIT}
    settings = load_settings(overrides=overrides | {"subscribers": [subscriber]})
    async with publishing(settings, metrics, designed(settings)) as opened:
        await opened.up()
        yield opened
    await rabbit.delete_subscribers(QUEUE)


async def test_ten_thousand_events_have_their_effect_once(
    consumer: Consumer, line: Line, rabbit: Rabbit, proxy: Proxy
) -> None:
    """In spite of repeats, of a kill -9 and of a lost connection; what is no event is in the subscriber's dead letters."""
    events = [message(number, rabbit.names.events) for number in range(EVENTS)]
    queue = f"{rabbit.names.prefix}{QUEUE}"
    async with rabbit.channel() as channel:
        await asyncio.gather(*map(line.publisher.publish, [*events[: EVENTS // 2], *events[:REPEATED]]))
        await channel.default_exchange.publish(aio_pika.Message(b"no event"), queue)
        await asyncio.gather(*map(line.publisher.publish, events[EVENTS // 2 :]))
    proxy.delay(LATENCY_SECONDS)
    process = await consumer.start()
    await consumer.has_done(EVENTS // 5)
    process.kill_now()
    await process.ended()
    killed_at = len(consumer.done())
    process = await consumer.start()
    await consumer.has_done(EVENTS // 2)
    proxy.cut()
    proxy.delay(0)
    await consumer.has_done(EVENTS)
    async with rabbit.reading(f"{queue}.dead") as dead:
        poison = await dead.next()
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    assert killed_at < EVENTS
    assert sorted(consumer.done()) == sorted(event.message_id for event in events)
    assert (poison.body, poison.headers["x-first-death-reason"]) == (b"no event", "rejected")
    assert [await rabbit.depth(queue), await rabbit.depth(f"{queue}.dead")] == [0, 0]


async def test_what_fails_is_tried_again_and_a_stop_leaves_it_in_the_queue(
    consumer: Consumer, line: Line, rabbit: Rabbit
) -> None:
    """After a pause, for which nobody waits: a consumer that is stopped meanwhile gives it back at once."""
    first, second, third = (message(number, rabbit.names.events) for number in range(3))
    queue = f"{rabbit.names.prefix}{QUEUE}"
    process = await consumer.start()
    await line.publisher.publish(first)
    await consumer.has_done(1)
    with consumer.failing():
        await line.publisher.publish(second)
        await process.writes(second.message_id)
    await consumer.has_done(2)
    with consumer.failing():
        await line.publisher.publish(third)
        await process.writes(third.message_id)
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert await rabbit.depth(queue) == 1
    process = await consumer.start()
    await consumer.has_done(3)
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    assert consumer.done() == [first.message_id, second.message_id, third.message_id]
    assert [await rabbit.depth(queue), await rabbit.depth(f"{queue}.dead")] == [0, 0]


def test_each_is_short_enough_to_be_copied() -> None:
    """Below 60 lines."""
    lines = {
        path.name: path.read_text().count("\n") for path in FOLDER.iterdir() if path.suffix in {".py", ".mjs"}
    }
    assert len(lines) == 5
    assert {name: count for name, count in lines.items() if count >= 60} == {}
