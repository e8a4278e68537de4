"""The worker: which events put an address on the list, and how often each of them counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bridge.amqp.connection import Link
from bridge.broker import declaring, topology
from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from bridge.suppression.address_keys import keys_of
from bridge.suppression.store import Store
from bridge.tasks import background_task
from bridge.worker.consumer import Consumer
from bridge.worker.consumer_metrics import ConsumerMetrics
from bridge.worker.delivery_result import DeliveryResult
from tests.support.working import body_of, bounced, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.failures import Failure
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

HARMLESS = ("delivered", "opened", "clicked", "unsubscribed", "skipped", "soft_bounced")


async def test_hard_bounces_and_complaints_of_both_spellings_are_on_the_list(
    settings: Settings, workplace: Workplace
) -> None:
    """Each of the three puts its address on the list with its reason, and is acknowledged."""
    async with working(settings):
        await workplace.send(body_of("hard_bounced", 1), body_of("complained", 2), body_of("complined", 3))
        await workplace.changes(3)
    assert await workplace.listed() == {
        ("recipient1@example.org", "hard_bounce"): 1,
        ("recipient2@example.org", "complaint"): 1,
        ("recipient3@example.org", "complaint"): 1,
    }
    assert await workplace.left() == []


async def test_an_entry_holds_the_event_that_caused_it(settings: Settings, workplace: Workplace) -> None:
    """The evidence is the provider's bytes; the message id and the event's time stand beside it."""
    body = body_of("hard_bounced", 7)
    async with working(settings):
        await workplace.send(body)
        (change,) = await workplace.changes(1)
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        (entry,) = await store.check("recipient7@example.org")
        (line,) = await store.history("recipient7@example.org")
    assert (entry.evidence, entry.message_id, entry.first_event_at) == (body, "7", 1539062173)
    assert (line.evidence, line.event_id, line.actor) == (body, change["event_id"], "worker")


async def test_the_other_events_do_not_even_reach_the_worker(workplace: Workplace) -> None:
    """With the default policy no queue of the worker is bound for them."""
    await workplace.send(*(body_of(name, 1) for name in HARMLESS), body_of("never_seen_before", 1))
    await workplace.send(body_of("hard_bounced", 2))
    assert await workplace.left() == [body_of("hard_bounced", 2)]


async def test_an_event_that_reaches_the_worker_without_suppressing_is_acknowledged(
    settings: Settings, workplace: Workplace
) -> None:
    """A binding that is left over from an earlier policy puts nobody on the list."""
    for name in HARMLESS:
        await workplace.put(body_of(name, 1))
    async with working(settings):
        await workplace.send(body_of("hard_bounced", 2))
        await workplace.changes(1)
    assert await workplace.listed() == bounced([2])
    assert await workplace.left() == []
    assert await workplace.dead() == []


async def test_unsubscribing_suppresses_where_the_policy_says_so(
    overrides: dict[str, Any], workplace: Workplace
) -> None:
    """`suppression.events` binds the queue to what it names, and gives the entry its reason."""
    events = ["hard_bounced", "complained", "unsubscribed"]
    async with working(load_settings(overrides=changed(overrides, suppression={"events": events}))):
        await workplace.send(body_of("unsubscribed", 1), body_of("hard_bounced", 2), body_of("opened", 3))
        await workplace.changes(2)
    assert await workplace.listed() == {
        ("recipient1@example.org", "unsubscribe"): 1,
        ("recipient2@example.org", "hard_bounce"): 1,
    }


async def test_an_event_that_comes_twice_counts_once(settings: Settings, workplace: Workplace) -> None:
    """In one batch and in two, in either spelling: one entry, count 1, one change."""
    repeated = [body_of("complained", 1), body_of("complined", 1), body_of("complained", 1)]
    await workplace.send(*repeated)
    async with working(settings):
        await workplace.changes(1)
        await workplace.send(*repeated, body_of("hard_bounced", 2))
        changes = await workplace.changes(2)
    assert [change["address"] for change in changes] == ["recipient1@example.org", "recipient2@example.org"]
    assert await workplace.listed() == {("recipient1@example.org", "complaint"): 1} | bounced([2])
    assert await workplace.left() == []


async def test_two_events_for_one_address_count_two(
    settings: Settings, workplace: Workplace, simulator: Simulator
) -> None:
    """Two messages to one mailbox, in any spelling of it, are one entry that counts both."""
    first = simulator.add_message("Jane.Doe@Example.ORG")
    second = simulator.add_message("jane.doe@example.org")
    async with working(settings):
        await workplace.send(body_of("hard_bounced", first))
        await workplace.changes(1)
        await workplace.send(body_of("hard_bounced", second, at=1539062199))
        changes = await workplace.changes(2)
    assert [change["action"] for change in changes] == ["added", "updated"]
    assert await workplace.listed() == {("jane.doe@example.org", "hard_bounce"): 2}


async def test_repeated_and_reordered_events_leave_an_exact_list(
    settings: Settings, workplace: Workplace
) -> None:
    """300 deliveries of 100 events in another order than they happened: each counts once."""
    bodies = bounces(range(1, 101))
    await workplace.send(*bodies[::-1], *bodies[50:], *bodies[:50], *bodies)
    async with working(settings):
        await workplace.changes(100)
    # What came after the last change is given back by the end of the worker, or was a repeat.
    assert await workplace.listed() == bounced(range(1, 101))
    assert set(await workplace.left()) <= set(bodies)


async def test_a_known_address_is_not_asked_for(
    settings: Settings, workplace: Workplace, simulator: Simulator
) -> None:
    """What was looked up once, or announced, is taken from the local table."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({"5000": "announced@example.org"})
    async with working(settings):
        await workplace.send(body_of("hard_bounced", 5000), body_of("hard_bounced", 1))
        await workplace.changes(2)
        await workplace.send(body_of("complained", 1))
        await workplace.changes(3)
    assert [request.path for request in simulator.requests] == ["/v1/email/messages/1"]
    assert ("announced@example.org", "hard_bounce") in await workplace.listed()


async def test_a_worker_that_keeps_hashes_knows_a_message_by_the_hash_of_its_address(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """What is announced or was looked up is a hash in its database, and suppresses as an address does."""
    privacy = {"privacy": "hmac", "privacy_keys": ["k1:" + "1" * 32]}
    settings = load_settings(overrides=changed(overrides, suppression=privacy))
    keys = keys_of(settings.suppression)
    async with Store.open(settings.suppression.database_url.get_secret_value(), keys=keys) as store:
        await store.remember({"5000": "announced@example.org"})
    async with working(settings):
        await workplace.send(body_of("hard_bounced", 5000), body_of("hard_bounced", 1))
        await workplace.changes(2)
        await workplace.send(body_of("complained", 1))
        await workplace.changes(3)
    assert [request.path for request in simulator.requests] == ["/v1/email/messages/1"]
    assert await workplace.listed() == {
        (keys.written("announced@example.org"), "hard_bounce"): 1,
        (keys.written("recipient1@example.org"), "hard_bounce"): 1,
        (keys.written("recipient1@example.org"), "complaint"): 1,
    }
    assert await workplace.dead() == []


async def test_a_full_batch_does_not_linger(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """Two batches that are full are written at once; only the one that is not waits for more."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({str(number): f"recipient{number}@example.org" for number in range(1, 11)})
    worker = {"batch_size": 4, "linger": 3600, "drain_timeout": 0.2}
    async with working(load_settings(overrides=changed(overrides, worker=worker))):
        await workplace.send(*bounces(range(1, 11)))
        await workplace.changes(8)
        assert await workplace.listed() == bounced(range(1, 9))
    assert await workplace.left(at_least=2) == bounces([9, 10])


async def test_a_slow_look_up_holds_up_only_its_own_event(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace, simulator: Simulator
) -> None:
    """Events whose address is known are on the list while the provider has not answered for another."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({"2": "recipient2@example.org", "3": "recipient3@example.org"})
    simulator.faults.slow = -1
    async with working(load_settings(overrides=changed(overrides, worker={"drain_timeout": 0.2}))):
        await workplace.send(*bounces([1, 2, 3]))
        await workplace.changes(2)
        assert await workplace.listed() == bounced([2, 3])
    assert await workplace.left(at_least=1) == bounces([1])


async def test_a_queue_that_is_deleted_and_made_again_at_once_is_consumed_again(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, metrics: Metrics
) -> None:
    """RabbitMQ 3.10 does not cancel the consumer then: the worker finds out by itself."""
    work = _Remembering(outcome="ignored")
    async with _consuming(settings, metrics, work) as opened, rabbit.channel() as channel:
        await opened.once_more()
        await workplace.send(*bounces([1]))
        assert (await work.next()).body == bounces([1])[0]
        await channel.queue_delete(rabbit.names.suppression)
        await workplace.declare()
        await workplace.send(*bounces([2]))
        assert (await work.next()).body == bounces([2])[0]


async def test_a_queue_that_is_deleted_is_declared_again(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, metrics: Metrics
) -> None:
    """The worker does not wait for somebody else to do it."""
    work = _Remembering()
    async with _consuming(settings, metrics, work) as opened, rabbit.channel() as channel:
        await opened.once_more()
        await channel.queue_delete(rabbit.names.suppression)
        await opened.once_more()
        await workplace.send(*bounces([1]))
        assert (await work.next()).body == bounces([1])[0]


async def test_a_channel_that_rabbitmq_closes_is_opened_again(
    settings: Settings, workplace: Workplace, metrics: Metrics
) -> None:
    """An acknowledgement that RabbitMQ refuses closes the channel: what was unacknowledged comes again."""
    work = _Remembering()
    async with _consuming(settings, metrics, work) as opened:
        await opened.once_more()
        await workplace.send(*bounces([1, 2]))
        first, second = await work.next(), await work.next()
        work.report(DeliveryResult(first._replace(tag=999), "ignored"))
        await opened.once_more()
        again = [await work.next(), await work.next()]
    assert Counter(one.body for one in again) == Counter([first.body, second.body])
    assert all(one.redelivered for one in again)


@asynccontextmanager
async def _consuming(settings: Settings, metrics: Metrics, work: _Remembering) -> AsyncIterator[_Opened]:
    """A consumer as `roles.worker` wires it, with other work to do."""
    link = Link(settings.rabbitmq, use="consume", metrics=metrics)
    consumer = Consumer(
        settings.worker,
        queue=topology.Names(settings.rabbitmq.prefix).suppression,
        handler=work,
        route_failure=_never,
        counts=ConsumerMetrics(metrics),
        idle_after=0.3,
    )
    opened = _Opened()

    async def session(connection: AbstractConnection) -> None:
        await declaring.apply_all(connection, planned_topology(settings), settings.rabbitmq.declare)
        await consumer.session(connection, opened=opened.now)

    async with background_task(link.run(session), name="consume"):
        yield opened


async def _never(incoming: Delivery, failure: Failure) -> str:
    raise AssertionError(f"{incoming.body!r} has not failed: {failure.error}")


class _Opened:
    """Counts how often a consumer was set up."""

    def __init__(self) -> None:
        self._times = asyncio.Semaphore(0)

    def now(self) -> None:
        self._times.release()

    async def once_more(self) -> None:
        async with asyncio.timeout(90):
            await self._times.acquire()


class _Remembering:
    """`Work` that hands on what it is given, and gives all of it this outcome, or none."""

    def __init__(self, outcome: str | None = None) -> None:
        self._outcome = outcome
        self._taken: asyncio.Queue[Delivery] = asyncio.Queue()
        self.report: Callable[[DeliveryResult], None] = lambda _: None

    async def run(self, inbox: asyncio.Queue[Delivery], report: Callable[[DeliveryResult], None]) -> None:
        self.report = report
        while True:
            delivery = await inbox.get()
            self._taken.put_nowait(delivery)
            if self._outcome is not None:
                report(DeliveryResult(delivery, self._outcome))

    async def next(self) -> Delivery:
        async with asyncio.timeout(90):
            return await self._taken.get()
