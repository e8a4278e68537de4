"""A suppression queue that was gone: what it missed comes from the archive."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from bridge.amqp.connection import Link, open_connection
from bridge.broker import backfill_marker, declaring
from bridge.broker.topology_plan import planned_topology
from bridge.operations import topology
from bridge.roles.publishing import make_publisher
from bridge.settings.loading import load_settings
from bridge.tasks import background_task
from bridge.worker.backfill import Backfill
from tests.conftest import TOKEN
from tests.support import undecodable
from tests.support.archiving import archive, many
from tests.support.rabbit import Rabbit
from tests.support.wire import ask, post
from tests.support.working import AT, Workplace, body_of, bounced, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from tests.support.managed import Managed
    from tests.support.processes import Processes

MANY = 300
RECEIVED_AT = AT * 1000


@asynccontextmanager
async def deleted(rabbit: Rabbit, settings: Settings) -> AsyncIterator[Workplace]:
    """Hard bounces that RabbitMQ has confirmed, and then the worker's queue with all of them is gone."""
    async with Workplace.prepared(rabbit, settings) as workplace:
        await archive(rabbit, settings, many("hard_bounced", MANY, RECEIVED_AT))
        async with rabbit.channel() as channel:
            await channel.queue_delete(rabbit.names.suppression)
        yield workplace


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_backfill_that_is_interrupted_is_finished_by_the_next_worker(
    processes: Processes,
    overrides: dict[str, Any],
    settings: Settings,
    rabbit: Rabbit,
    number: signal.Signals,
) -> None:
    """The queue stands by then; that it is not filled yet is a message that outlives the worker."""
    slowly = changed(overrides, worker={"prefetch": 2})
    async with deleted(rabbit, settings) as workplace:
        worker = await processes.start("worker", overrides=slowly)
        await worker.says("worker.backfill")
        worker.send(number)
        assert await worker.ended() in {0, -signal.SIGKILL}
        assert await rabbit.depth(rabbit.names.backfill) == 1
        following = await processes.start("worker", overrides=overrides)
        await following.says("worker.backfilled")
        await workplace.changes(MANY)
        assert await workplace.listed() == bounced(range(1, MANY + 1))
        assert await rabbit.depth(rabbit.names.backfill) == 0


async def test_a_receiver_that_makes_the_queue_first_does_not_hide_that_it_is_to_be_filled(
    processes: Processes, overrides: dict[str, Any], settings: Settings, rabbit: Rabbit
) -> None:
    """It starts before the worker, and declares all of the topology."""
    async with deleted(rabbit, settings) as workplace:
        receiver = await processes.start("receiver", overrides=overrides)
        await receiver.says("topology.backfill_due")
        await receiver.says("broker.connected")
        assert await rabbit.stands(rabbit.names.suppression)
        worker = await processes.start("worker", overrides=overrides)
        assert (await worker.says("worker.backfilled"))["events"] == MANY
        await workplace.changes(MANY)
        assert await workplace.listed() == bounced(range(1, MANY + 1))


class Filling:
    """A backfill inside the test, on connections of its own."""

    def __init__(self, backfill: Backfill, connection: AbstractConnection, metrics: Metrics) -> None:
        self.backfill = backfill
        self.connection = connection
        self.metrics = metrics

    @property
    def due(self) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_backfill_due")

    @property
    def events(self) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_backfill_events_total")

    async def until_done(self) -> None:
        async with background_task(self.backfill.run(self.connection), name="backfill"), asyncio.timeout(90):
            while self.due != 0 or not self.events:  # noqa: ASYNC110 -- metrics tell nobody
                await asyncio.sleep(0.02)


@pytest.fixture
async def filling(
    settings: Settings, amqp_url: str, metrics: Metrics, rabbit: Rabbit
) -> AsyncIterator[Filling]:
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, link, metrics, window=100)

    async def stand(connection: AbstractConnection) -> None:
        await declaring.declare(connection, planned_topology(settings))

    connection = await open_connection(amqp_url, name="test")
    async with connection, background_task(link.run(publisher.session), name="publish"), asyncio.timeout(90):
        await link.up.wait()
        names = rabbit.names
        backfill = Backfill(
            publisher,
            names,
            suppressing=settings.suppression.used_events,
            window=100,
            ensure_topology=stand,
            metrics=metrics,
        )
        yield Filling(backfill, connection, metrics)


async def mark(rabbit: Rabbit, body: bytes) -> None:
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(body), rabbit.names.backfill)


async def test_it_goes_on_where_the_marker_says(filling: Filling, settings: Settings, rabbit: Rabbit) -> None:
    """What stands before that offset is in the queue already; the marker goes when the end is reached."""
    await archive(rabbit, settings, many("hard_bounced", 50, RECEIVED_AT))
    async with rabbit.channel() as channel:
        await (await channel.get_queue(rabbit.names.suppression)).purge()
    await mark(rabbit, b'{"offset": 30}')
    await filling.until_done()
    assert filling.events == 20
    assert await rabbit.depth(rabbit.names.suppression) == 20
    assert await rabbit.depth(rabbit.names.backfill) == 0


async def test_a_marker_that_cannot_be_read_means_from_the_beginning(
    filling: Filling, settings: Settings, rabbit: Rabbit
) -> None:
    """And so do several of which one says so."""
    await archive(rabbit, settings, many("hard_bounced", 5, RECEIVED_AT))
    await mark(rabbit, b'{"offset": 4}')
    await mark(rabbit, b"garbage \xff")
    await filling.until_done()
    assert filling.events == 5
    assert await rabbit.depth(rabbit.names.backfill) == 0


async def test_a_queue_that_is_deleted_once_more_meanwhile_is_still_due(
    filling: Filling, settings: Settings, rabbit: Rabbit
) -> None:
    """Only the markers that were read are taken away, and looking takes none."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    await mark(rabbit, b'{"offset": 7}')
    for _ in range(25):  # RabbitMQ 4 would drop it at the 21st delivery
        read = await backfill_marker.read_markers(filling.connection, rabbit.names.backfill)
    await mark(rabbit, b'{"offset": null}')
    assert read is not None
    assert read.offset == 7
    await backfill_marker.remove_markers(filling.connection, rabbit.names.backfill, read.ids)
    assert await rabbit.depth(rabbit.names.backfill) == 1
    left = await backfill_marker.read_markers(filling.connection, rabbit.names.backfill)
    assert left is not None
    assert left.offset is None


async def test_a_marker_whose_properties_cannot_be_decoded_is_one_all_the_same(
    filling: Filling, settings: Settings, rabbit: Rabbit
) -> None:
    """A year beyond 9999 would end aiormq's reader, and the connection of the worker with it, each time anew."""
    await archive(rabbit, settings, many("hard_bounced", 5, RECEIVED_AT))
    encoded = undecodable.properties(at=int.from_bytes(undecodable.BEYOND))
    await undecodable.put(rabbit, rabbit.names.backfill, encoded, b'{"offset": 4}')
    await filling.until_done()
    assert filling.events == 1
    assert await rabbit.depth(rabbit.names.backfill) == 0


async def test_one_worker_at_a_time_fills_the_queue(
    filling: Filling, settings: Settings, rabbit: Rabbit, amqp_url: str
) -> None:
    """The other one says that it is due, and takes over when the first one's connection has ended."""
    await archive(rabbit, settings, many("hard_bounced", 5, RECEIVED_AT))
    await mark(rabbit, b'{"offset": null}')
    first = await aio_pika.connect(amqp_url)
    channel = await first.channel()
    await channel.declare_queue(f"{rabbit.names.backfill}.lock", exclusive=True)
    assert await filling.backfill.fill_if_due(filling.connection)
    assert (filling.due, filling.events) == (1, 0)
    await first.close()
    assert not await filling.backfill.fill_if_due(filling.connection)
    assert (filling.due, filling.events) == (0, 5)


async def test_events_that_came_while_the_suppression_queue_was_gone_are_on_the_list(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """They are in the archive alone; the worker that makes the queue again takes them from there, each once."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
        await channel.declare_exchange(rabbit.names.changes, "topic", durable=True)
    for number in (1, 2):
        answer = await ask(port, post(body_of("hard_bounced", number), token=TOKEN))
        assert answer.json["durability"] == "confirmed"
    assert (await ask(port, post(body_of("opened", 3), token=TOKEN))).json["durability"] == "confirmed"
    async with rabbit.listening(rabbit.names.changes, "#") as changes:
        worker = await processes.start("worker", overrides=overrides)
        assert (await worker.says("worker.backfilled"))["events"] == 2
        assert [change.routing_key for change in await changes.take(2)] == ["added", "added"]


async def test_a_first_start_reads_no_archive(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Where nothing has been received yet there is nothing to take."""
    assert rabbit
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    assert not [line for line in worker.lines if "backfill" in line]


@pytest.mark.parametrize("applied", [False, True], ids=["by the worker", "by topology apply"])
async def test_bindings_that_were_lost_are_made_again_and_what_went_past_is_taken_from_the_archive(
    managed: Managed, settings: Settings, overrides: dict[str, Any], *, applied: bool
) -> None:
    """The queue stood all the time: only the management API can tell, where there is one. Whoever binds it again asks."""
    there = changed(overrides, rabbitmq={"urls": [managed.url], "management_url": managed.api})
    local = load_settings(overrides=there)
    async with await aio_pika.connect(managed.url) as connection:
        rabbit = Rabbit(connection, settings.rabbitmq.prefix)
        async with Workplace.prepared(rabbit, local) as workplace, rabbit.channel() as channel:
            queue = await channel.get_queue(rabbit.names.suppression)
            for key in ("hard_bounced", "complained", "complined"):
                await queue.unbind(rabbit.names.events, key)
            await workplace.send(*(body_of("hard_bounced", number) for number in (1, 2)))
            assert await rabbit.depth(rabbit.names.suppression) == 0
            if applied:
                assert not await topology.apply(local, planned_topology(local), wait=20)
            async with working(local):
                await workplace.changes(2)
                await workplace.send(body_of("hard_bounced", 3))
                await workplace.changes(3)
            assert await workplace.listed() == bounced([1, 2, 3])
        await rabbit.delete_everything()
