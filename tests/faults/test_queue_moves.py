"""`bridge topology apply --migrate` under load: killed at every step, beside a worker, and against a role with old settings."""

from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq import Channel
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, ChannelNotFoundEntity
from pamqp import commands as spec
from yarl import URL

from bridge.amqp.channels import on_consumer_cancelled
from bridge.amqp.connection import open_connection
from bridge.amqp.message_path import path_of
from bridge.amqp.message_types import Message
from bridge.amqp.publish_channel import PublishChannel, PublishCounters
from bridge.broker.topology import Names
from bridge.settings.loading import load_settings
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics
from tests.support.operating import TopologyOperator
from tests.support.rabbit import Rabbit
from tests.support.working import Workplace, bounced, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

    from tests.support.managed import Managed
    from tests.support.processes import Processes

NAMES = Names()
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
CRM = '[{"queue": "crm", "events": ["opened"]}]'
FORMER = QUORUM | {"x-delivery-limit": 1000}
SOON = ("--settle", "3")
"""RabbitMQ counts every half second here, and its API looks every second."""
STEPS = (
    "its messages go to",
    "waiting until",
    "is declared anew",
    "is declared anew",
    "its messages come back",
)


@pytest.fixture
async def operator(
    counting: Managed, prefix: str, tmp_path: Path, empty_list_file: Path
) -> AsyncIterator[TopologyOperator]:
    shutil.copy(empty_list_file, tmp_path / "list.sqlite3")
    await counting.control.add_virtual_host(prefix)
    yield TopologyOperator(str(URL(counting.url).with_path(f"/{prefix}")), counting.api, tmp_path)
    await counting.control.delete_virtual_host(prefix)


class Load:
    """Some hundred confirmed events a second for `crm`, and a service that consumes it, and acknowledges after its work."""

    def __init__(self) -> None:
        self.confirmed: set[str] = set()
        self.failed: list[object] = []
        self.seen: set[str] = set()
        self.repeats = 0
        self._published = asyncio.Event()
        self._grew = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str) -> AsyncIterator[Load]:
        load = cls()
        async with (
            background_task(load._publish(url), name="publish") as publishing,
            background_task(load._consume(url), name="consume") as consuming,
        ):
            yield load
            load._published.set()
            await publishing
            async with asyncio.timeout(90), load._grew:
                await load._grew.wait_for(lambda: consuming.done() or load.confirmed <= load.seen)

    async def consumed(self, more: int) -> None:
        """Wait until so many more events were consumed."""
        wanted = len(self.seen) + more
        async with asyncio.timeout(90), self._grew:
            await self._grew.wait_for(lambda: len(self.seen) >= wanted)

    async def _publish(self, url: str) -> None:
        connection = await open_connection(url, name="a test")
        channel = PublishChannel(PublishCounters(Metrics()), max_in_flight=100_000, on_problem=lambda _: None)
        channel.opened(await path_of(connection).open_confirm_channel(connection, channel))

        def note(event_id: str, error: object) -> None:
            if error is None:
                self.confirmed.add(event_id)
            else:
                self.failed.append(error)

        number = 0
        while not self._published.is_set():
            for _ in range(4):
                number += 1
                event_id = f"event-{number}"
                properties = spec.Basic.Properties(message_id=event_id, delivery_mode=2).marshal()
                message = Message(NAMES.events, "opened", event_id, properties, b"{}")
                channel.send(message, partial(note, event_id))
            await asyncio.sleep(0.01)
        await channel.wait_until_idle()
        await connection.close()

    async def _consume(self, url: str) -> None:
        """As a client does that subscribes again when RabbitMQ has cancelled its consumer.

        RabbitMQ 4.0 may end the connection (541) of who subscribes to a queue in the moment of its deletion.
        """
        while True:
            with suppress(AMQPError, ChannelInvalidStateError, ConnectionError):
                async with await aio_pika.connect(url) as connection:
                    await self._consume_until_cancelled(await connection.channel())
            await asyncio.sleep(0.05)

    async def _consume_until_cancelled(self, channel: aio_pika.abc.AbstractChannel) -> None:
        cancelled = asyncio.Event()
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        on_consumer_cancelled(underlay, cancelled.set)

        async def handle(message: AbstractIncomingMessage) -> None:
            event_id = message.message_id or ""
            async with self._grew:
                self.repeats += event_id in self.seen
                self.seen.add(event_id)
                self._grew.notify_all()
            with suppress(AMQPError):
                await message.ack()

        await channel.set_qos(prefetch_count=20)
        await (await channel.get_queue("crm")).consume(handle)
        # 3.10 does not tell where another has declared the queue at once: as the worker, it subscribes again after a while.
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await cancelled.wait()


async def test_nothing_is_lost_when_the_move_is_killed_at_every_step(
    operator: TopologyOperator, processes: Processes
) -> None:
    """And run again to its end, while events come and are consumed: each that was confirmed is seen."""
    async with operator.channel() as channel:
        await channel.declare_queue("crm", durable=True, arguments=FORMER)
    await operator.run("apply", subscribers=CRM)
    overrides = {
        "rabbitmq": {"urls": [operator.url], "management_url": operator.api},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{operator.directory}/list.sqlite3"},
        "subscribers": [{"queue": "crm", "events": ["opened"]}],
    }
    async with Load.on(operator.url) as load:
        await load.consumed(100)
        for step in STEPS:
            move = await processes.start("topology", "apply", "--migrate", *SOON, overrides=overrides)
            with suppress(AssertionError):  # what the step before has finished, this one does not
                await move.writes(step, patience=90)
                await asyncio.sleep(random.uniform(0, 1))  # noqa: S311 -- anywhere within the step
            move.kill_now()
            await move.ended()
        moved = await operator.document("apply", "--migrate", *SOON, subscribers=CRM)
        assert (moved["code"], moved["refused"]) == (0, [])
        await load.consumed(100)
    assert load.failed == []
    assert load.confirmed - load.seen == set()
    assert (await operator.run("plan", subscribers=CRM)).code == 0


async def test_a_role_that_binds_and_declares_it_as_before_only_delays_the_move(
    operator: TopologyOperator,
) -> None:
    """It runs with other settings; in the end the queue has its new arguments, and nothing is lost."""
    async with operator.channel() as channel:
        await channel.declare_queue("crm", durable=True, arguments=FORMER)
    await operator.run("apply", subscribers=CRM)

    declared: list[str] = []
    over = asyncio.Event()

    async def declare_as_before(connection: AbstractConnection) -> None:
        """It is faster once, and binds now and then. With a connection that is open: there is half a second to be faster in."""
        number = 0
        while not over.is_set():
            try:
                async with connection.channel() as channel:
                    queue = await channel.get_queue("crm")
                    if number % 500 == 0:
                        await queue.bind(NAMES.events, "opened")
            except ChannelNotFoundEntity:
                if not declared:
                    async with connection.channel() as channel:
                        await channel.declare_queue("crm", durable=True, arguments=FORMER)
                    declared.append("crm")
            number += 1
            await asyncio.sleep(0.01)

    async with Load.on(operator.url) as load:
        async with (
            await aio_pika.connect(operator.url) as connection,
            background_task(declare_as_before(connection), name="a role") as role,
        ):
            moved = await operator.document("apply", "--migrate", *SOON, subscribers=CRM)
            assert (moved["code"], moved["refused"]) == (0, [])
            over.set()
            await role
        assert declared
        await load.consumed(50)
    assert load.failed == []
    assert load.confirmed - load.seen == set()


async def test_the_workers_queues_are_moved_while_it_works(
    operator: TopologyOperator, overrides: dict[str, dict[str, Any]]
) -> None:
    """Each event is on the list or among the dead letters in the end, though both those and the retries were moved, too."""
    mine = changed(
        overrides,
        rabbitmq={"urls": [operator.url], "prefix": "", "management_url": operator.api, "declare": "never"},
    )
    settings = load_settings(overrides=mine)
    [first, second] = settings.worker.retry_delays
    former = [(NAMES.dead, FORMER), (NAMES.suppression, FORMER), (NAMES.retry(first), QUORUM)]
    async with await aio_pika.connect(operator.url) as connection:
        rabbit = Rabbit(connection, "")
        async with rabbit.channel() as channel:
            for name, arguments in former:
                # What was published there comes back, as it did before.
                back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": NAMES.suppression}
                ttl = {"x-message-ttl": round(first * 1000)} if name == NAMES.retry(first) else {}
                await channel.declare_queue(
                    name, durable=True, arguments=arguments | (back | ttl if ttl else {})
                )
        delays = f"{first},{second}"
        await operator.run("apply", BRIDGE_WORKER__RETRY_DELAYS=delays)
        channel = await connection.channel()
        heard = rabbit.listening(NAMES.changes, "#")
        async with heard as listener:
            workplace = Workplace(rabbit, settings, listener, channel)
            async with working(settings):
                numbers = iter(range(1, 900))
                stop = asyncio.Event()
                sent: list[int] = []

                async def send() -> None:
                    while not stop.is_set():
                        known = next(numbers)
                        await workplace.send(*bounces([known, 100_000 + known]))
                        sent.append(known)
                        await asyncio.sleep(0.05)

                async with background_task(send(), name="send") as sending:
                    moved = await operator.document(
                        "apply", "--migrate", *SOON, BRIDGE_WORKER__RETRY_DELAYS=delays
                    )
                    assert (moved["code"], moved["refused"]) == (0, [])
                    assert {one["name"] for one in moved["moved"]} == {name for name, _ in former}
                    stop.set()
                    await sending
                await workplace.changes(len(sent))
                dead: set[int] = set()
                async with asyncio.timeout(240):
                    while len(dead) < len(sent):
                        dead |= {number_of(message) for message in await workplace.dead()}
                        await asyncio.sleep(0.2)
            assert await workplace.listed() == bounced(sent)
            assert dead == {100_000 + number for number in sent}


def number_of(message: AbstractIncomingMessage) -> int:
    """The provider's message id."""
    return int(message.body.split(b'"id":')[1].split(b",")[0].strip(b' "}'))
