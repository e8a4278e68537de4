"""What the worker sees of other services' queues on a real RabbitMQ, and what `bridge status` makes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from structlog.testing import capture_logs

from bridge.broker import declaring, management
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics.status import StatusMonitor
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.telemetry import health
from bridge.telemetry.health import Readiness
from bridge.telemetry.metrics import Metrics
from bridge.worker.subscriber_watch import IDLE_SECONDS, SubscriberWatch
from tests.support.ports import free_port
from tests.support.rabbit import Rabbit
from tests.support.working import changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Settings
    from tests.support.managed import Managed

NO_CONSUMER = "it has no consumer: start that service, or `bridge subscribers remove` it"
CRM = Subscriber(queue="crm", events=("opened",), max_length=5)
SHOP = Subscriber(queue="shop", changes=True)


@dataclass
class Watching:
    """A watch with the test's own clock, over two subscribers whose queues are there."""

    rabbit: Rabbit
    settings: Settings
    watch: SubscriberWatch
    metrics: Metrics
    subscribers: list[Subscriber]
    now: float = 1000.0

    async def known(self) -> list[Subscriber]:
        return self.subscribers

    async def look(self) -> None:
        await self.watch.look(self.rabbit.connection)

    def shown(self, queue: str) -> dict[str, float]:
        """The metrics of a queue, without what all begin with."""
        return {
            sample.name.removeprefix("bridge_subscriber_"): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.labels.get("queue") == f"{self.settings.rabbitmq.prefix}{queue}"
        }

    async def publish(self, queue: str, number: int) -> None:
        async with self.rabbit.channel() as channel:
            for one in range(number):
                body = aio_pika.Message(str(one).encode())
                await channel.default_exchange.publish(body, f"{self.settings.rabbitmq.prefix}{queue}")

    async def until(self, queue: str, **expected: float) -> None:
        """The management API counts every 5 s."""
        async with asyncio.timeout(90):
            while not expected.items() <= self.shown(queue).items():
                await self.look()
                await asyncio.sleep(0.1)


@asynccontextmanager
async def watching(
    settings: Settings, connection: aio_pika.abc.AbstractConnection
) -> AsyncIterator[Watching]:
    metrics = Metrics()
    async with management.connect(settings.rabbitmq) as api:
        at = Watching(Rabbit(connection, ""), settings, None, metrics, [CRM, SHOP])  # type: ignore[arg-type]  # made next
        at.watch = SubscriberWatch(
            at.known, api, prefix=settings.rabbitmq.prefix, metrics=metrics, clock=lambda: at.now
        )
        await declaring.declare(connection, planned_topology(settings))
        yield at


@pytest.fixture
async def seen_through(managed: Managed, overrides: dict[str, Any]) -> AsyncIterator[Watching]:
    """With the management API."""
    of_this_test = changed(overrides, rabbitmq={"urls": [managed.url], "management_url": managed.api})
    settings = load_settings(overrides=of_this_test).model_copy(update={"subscribers": (CRM, SHOP)})
    async with await aio_pika.connect(managed.url) as connection, watching(settings, connection) as at:
        yield at


@pytest.fixture
async def blind(rabbit: Rabbit, settings: Settings) -> AsyncIterator[Watching]:
    """Without it."""
    of_this_test = settings.model_copy(
        update={
            "subscribers": (CRM, SHOP),
            "rabbitmq": settings.rabbitmq.model_copy(update={"management_url": "http://127.0.0.1:1"}),
        }
    )
    async with watching(of_this_test, rabbit.connection) as at:
        yield at
        async with rabbit.channel() as channel:
            for subscriber in (CRM, SHOP):
                for name in (subscriber.queue, subscriber.dead):
                    await channel.queue_delete(f"{settings.rabbitmq.prefix}{name}")


async def test_depth_and_dead_letters_are_counted_without_the_management_api(blind: Watching) -> None:
    """A full queue drops its oldest into its own dead letters. What is not known has no sample."""
    await blind.publish("crm", 8)
    await blind.until("crm", dead_letters=3)
    assert blind.shown("crm") == {
        "ready_messages": 5,
        "consumers": 0,
        "dead_letters": 3,
        "oldest_seconds": 0,
        "idle_seconds": 0,
    }
    assert blind.shown("shop")["ready_messages"] == 0


async def test_who_does_not_consume_is_named_once_and_forgotten_when_it_does(blind: Watching) -> None:
    """By the watch's own clock; the log names the queue. A subscriber that is removed leaves no metric behind."""
    await blind.publish("crm", 2)
    with capture_logs() as logs:
        for _ in range(20):
            await blind.look()
            blind.now += IDLE_SECONDS / 10
        assert blind.shown("crm")["idle_seconds"] == 2 * IDLE_SECONDS
        assert blind.shown("crm")["oldest_seconds"] == 2 * IDLE_SECONDS
        assert blind.shown("shop")["idle_seconds"] == 0
        async with blind.rabbit.channel() as channel:
            queue = await channel.get_queue(f"{blind.settings.rabbitmq.prefix}crm")
            await (await queue.get(timeout=90)).ack()
        await blind.look()
        assert blind.shown("crm")["idle_seconds"] == 0
    idle = [line for line in logs if line["action"] == "worker.subscriber_idle"]
    assert [line["queue"] for line in idle] == [f"{blind.settings.rabbitmq.prefix}crm"]
    blind.subscribers.remove(CRM)
    await blind.look()
    assert blind.shown("crm") == {}


async def test_a_consumer_that_takes_all_and_acknowledges_nothing(seen_through: Watching) -> None:
    """Only the management API tells: nothing is ready, and it is idle all the same. An acknowledgement ends that."""
    at = seen_through
    await at.publish("shop", 3)
    async with at.rabbit.channel() as channel:
        taken: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await (await channel.get_queue(f"{at.settings.rabbitmq.prefix}shop")).consume(taken.put)
        messages = [await taken.get() for _ in range(3)]
        await at.until("shop", unacknowledged_messages=3, ready_messages=0, consumers=1)
        at.now += 100
        assert at.shown("shop")["idle_seconds"] == 100
        await at.look()
        assert at.shown("shop")["idle_seconds"] == 100
        await messages[0].ack()
        await at.until("shop", unacknowledged_messages=2, idle_seconds=0)


async def test_status_says_what_each_has_and_who_does_not_consume(seen_through: Watching) -> None:
    """Counts from RabbitMQ, times from the workers' metrics; not consumed for a quarter of an hour is wrong."""
    at = seen_through
    prefix = at.settings.rabbitmq.prefix
    await at.publish("crm", 6)
    await at.until("crm", ready_messages=5, dead_letters=1, unacknowledged_messages=0)
    async with serving(at.metrics) as url, StatusMonitor.open(at.settings, [url]) as monitor:
        before = await monitor.read()
        at.now += 1800
        after = await monitor.read()
    assert not [line for line in before.wrong if "crm" in line]
    crm, shop = after.subscribers
    assert (crm.queue, crm.ready, crm.consumers, crm.dead_letters) == (f"{prefix}crm", 5, 0, 1)
    assert (crm.idle, crm.unacknowledged) == (1800, 0)
    assert crm.oldest_age is not None
    assert crm.oldest_age >= 1800
    assert (shop.ready, shop.idle) == (0, 0)
    assert [line for line in after.wrong if "crm" in line] == [
        f"'{prefix}crm' has not been consumed for 30 min: 5 messages wait; {NO_CONSUMER}"
    ]


async def test_without_a_worker_status_says_what_it_does_not_know(blind: Watching) -> None:
    """That alone is not wrong; the counts are there."""
    await blind.publish("crm", 1)
    async with StatusMonitor.open(blind.settings, ["http://127.0.0.1:1"]) as monitor:
        seen = await monitor.read()
    [crm] = [one for one in seen.subscribers if one.queue.endswith("crm")]
    assert replace(crm, queue="", dead_queue="") == replace(
        crm, queue="", dead_queue="", ready=1, idle=None, oldest_age=None, there=True
    )
    assert any("no worker says" in line for line in seen.unseen)
    assert not any("crm" in line for line in seen.wrong)


@asynccontextmanager
async def serving(metrics: Metrics) -> AsyncIterator[str]:
    """The health of a worker that shows these."""
    port = free_port()
    ready = Readiness(True, {"consume": {"state": "up"}})  # noqa: FBT003 -- as everywhere
    check, exposition = health.process_health(metrics, lambda: ready)
    async with health.serve(sections.Health(port=port), check, exposition, default_port=0):
        yield f"http://127.0.0.1:{port}"
