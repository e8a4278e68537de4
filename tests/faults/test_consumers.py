"""The consumers of docs/consumers under real traffic: killed, cut off and stopped, and each event has its effect once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from bridge.broker import declaring
from bridge.broker.messages import message_from_body
from bridge.broker.topology_plan import planned_topology
from bridge.development.emission import event_body
from bridge.settings.loading import load_settings
from tests.support.api_client import ALL, serving, token_of
from tests.support.consumers import FOLDER, Consumer
from tests.support.proxy import Proxy
from tests.support.receiving import designed, publishing
from tests.support.working import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bridge.amqp.message_types import Message
    from bridge.telemetry.metrics import Metrics
    from tests.support.api_client import ApiClient
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Line


EVENTS = 10_000
AT_ONCE = 250
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


async def published(line: Line, messages: Sequence[Message]) -> None:
    """A few at once, so that RabbitMQ confirms them in good time on a busy machine, too."""
    for start in range(0, len(messages), AT_ONCE):
        await asyncio.gather(*map(line.publisher.publish, messages[start : start + AT_ONCE]))


@pytest.fixture(params=["python_aio_pika.py", "python_pika.py", "node_amqplib.mjs", "node_amqp10.mjs"])
async def consumer(
    request: pytest.FixtureRequest, amqp_url: str, control: Control, prefix: str, proxy: Proxy, folder: Path
) -> AsyncIterator[Consumer]:
    """Each of them, behind a proxy, on the queue of a subscriber."""
    name = str(request.param)
    if "amqp10" in name and int((await control.version()).partition(".")[0]) < AMQP_10_SINCE:
        pytest.skip(f"AMQP 1.0 needs RabbitMQ {AMQP_10_SINCE}, and this is {await control.version()}")
    modules = request.getfixturevalue("npm_packages") if name.endswith(".mjs") else None
    url = proxy.url(amqp_url).rstrip("/")
    async with Consumer(name, folder, modules, AMQP_URL=url, QUEUE=f"{prefix}{QUEUE}") as copied:
        yield copied


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a folder: a kill -9 loses nothing there, either, and 10,000 fsyncs of a disk take long."""
    memory = Path("/dev/shm")  # noqa: S108 -- the folder in it has a name that nobody guesses
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


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
        await published(line, [*events[: EVENTS // 2], *events[:REPEATED]])
        await channel.default_exchange.publish(aio_pika.Message(b"no event"), queue)
        await published(line, events[EVENTS // 2 :])
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
        assert await process.ended() == 0, process.lines
    process = await consumer.start()
    await consumer.has_done(3)
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    assert consumer.done() == [first.message_id, second.message_id, third.message_id]
    assert [await rabbit.depth(queue), await rabbit.depth(f"{queue}.dead")] == [0, 0]


async def test_a_copy_of_the_list_has_no_gap(
    overrides: dict[str, Any], rabbit: Rabbit, proxy: Proxy, amqp_url: str, folder: Path
) -> None:
    """Ten thousand changes before the snapshot, during it and after it, a kill -9, a lost connection, an allowed domain."""
    settings = load_settings(overrides=overrides | {"subscribers": [{"queue": QUEUE, "changes": True}]})
    queue = f"{rabbit.names.prefix}{QUEUE}"
    await declaring.declare(rabbit.connection, planned_topology(settings))
    variables = {"AMQP_URL": proxy.url(amqp_url).rstrip("/"), "QUEUE": queue, "TOKEN": token_of(ALL)}
    async with (
        serving(settings.suppression.database_url.get_secret_value()) as api,
        Consumer("follow_the_list.py", folder, None, API=api.url(""), **variables) as follower,
        working(settings),
    ):
        await bounced(api, range(EVENTS // 2))
        proxy.delay(LATENCY_SECONDS)
        process = await follower.start()
        changing = asyncio.create_task(bounced(api, range(EVENTS // 2, EVENTS)))
        await follower.has_listed(EVENTS * 6 // 10)
        process.kill_now()
        await process.ended()
        await api.delete("/v1/suppressions/user1@b.example", note="")
        process = await follower.start()
        await changing
        await follower.has_listed(EVENTS * 8 // 10)
        proxy.cut()
        proxy.delay(0)
        await api.put("/v1/allow/b.example", {"note": ""})
        await api.delete("/v1/suppressions/user2@c.example", note="")
        await bounced(api, range(EVENTS, EVENTS + 10))
        await follower.lists(await suppressed(api, range(EVENTS + 10)))
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
    assert [await rabbit.depth(queue), await rabbit.depth(f"{queue}.dead")] == [0, 0]
    await rabbit.delete_subscribers(QUEUE)


def address(number: int) -> str:
    return f"user{number}@{'abc'[number % 3]}.example"


async def bounced(api: ApiClient, numbers: range) -> None:
    for start in range(0, len(numbers), 1000):
        some = [{"address": address(one), "reason": "hard_bounce"} for one in numbers[start : start + 1000]]
        assert (await api.post("/v1/suppressions", {"suppressions": some})).status == 200


async def suppressed(api: ApiClient, numbers: range) -> set[str]:
    """Which of these addresses the API says must not be written to."""
    found: set[str] = set()
    for start in range(0, len(numbers), 10_000):
        some = [address(one) for one in numbers[start : start + 10_000]]
        answer = await api.post("/v1/suppressions/check", {"addresses": some})
        found |= {one["address"] for one in answer.body["results"] if not one["allowed"]}
    return found


def test_each_is_short_enough_to_be_copied() -> None:
    """Below 60 lines."""
    lines = {
        path.name: path.read_text().count("\n") for path in FOLDER.iterdir() if path.suffix in {".py", ".mjs"}
    }
    assert len(lines) == 5
    assert {name: count for name, count in lines.items() if count >= 60} == {}
