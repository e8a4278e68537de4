"""`bridge topology apply --migrate`: a queue gets its planned arguments, and every message stays, byte for byte."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from pamqp import commands as spec
from yarl import URL

from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.message_path import path_of
from bridge.amqp.message_types import Message
from bridge.amqp.publish_channel import PublishChannel, PublishCounters
from bridge.broker.topology import Names
from bridge.telemetry.metrics import Metrics
from tests.support.operating import TopologyOperator
from tests.support.undecodable import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.amqp.message_types import Delivery
    from tests.support.managed import Managed

NAMES = Names()
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
CRM = '[{"queue": "crm", "events": ["opened"]}]'
SOON = ("--settle", "3")
"""RabbitMQ counts every half second here, and its API looks every second."""


@pytest.fixture
async def operator(
    counting: Managed, prefix: str, tmp_path: Path, empty_list_file: Path
) -> AsyncIterator[TopologyOperator]:
    shutil.copy(empty_list_file, tmp_path / "list.sqlite3")
    await counting.control.add_virtual_host(prefix)
    yield TopologyOperator(str(URL(counting.url).with_path(f"/{prefix}")), counting.api, tmp_path)
    await counting.control.delete_virtual_host(prefix)


async def test_a_queue_gets_its_arguments_and_each_message_stays_as_it_was(
    operator: TopologyOperator,
) -> None:
    """Body, routing key, properties, headers, also what cannot be decoded; and bindings that its team has made."""
    async with operator.channel() as channel:
        await operator.run("apply")
        crm = await channel.declare_queue("crm", durable=True, arguments=QUORUM | {"x-max-length": 1000})
        untouched = await channel.declare_queue("untouched", durable=True, arguments=QUORUM)
        theirs = await channel.declare_exchange("theirs", "headers", durable=True)
        for queue in (crm, untouched):
            await queue.bind(NAMES.events, "opened")
            await queue.bind(NAMES.events, "clicked")
        await crm.bind(theirs, "", arguments={"x-match": "any", "kind": "invoice"})
    await send(operator, messages())
    moved = await operator.document("apply", "--migrate", *SOON, subscribers=CRM)
    assert (moved["code"], moved["refused"]) == (0, [])
    assert moved["moved"] == [{"name": "crm", "messages": 2 * len(messages()), "refused": None}]
    differs = await operator.document("plan", subscribers=CRM)
    assert (differs["differs"], differs["unfinished"]) == ([], [])
    assert [one["key"] for one in differs["stray"]] == ["clicked"]
    expected = await taken(operator, "untouched", len(messages()))
    assert await taken(operator, "crm", len(messages())) == expected
    async with operator.channel() as channel:
        theirs = await channel.get_exchange("theirs")
        await theirs.publish(aio_pika.Message(b"one more", headers={"kind": "invoice"}), "any")
        await (await channel.get_exchange(NAMES.events)).publish(aio_pika.Message(b"{}"), "clicked")
    assert len(await taken(operator, "crm", 2)) == 2


async def test_nothing_is_moved_while_a_consumer_holds_a_message(operator: TopologyOperator) -> None:
    """It is named, and the queue is as before: its consumer, its messages, its bindings."""
    async with operator.channel() as channel, operator.channel() as consuming:
        await channel.declare_queue("crm", durable=True, arguments=QUORUM)
        await operator.run("apply", subscribers=CRM)
        await send(operator, [plain(number) for number in range(5)])
        await consuming.set_qos(prefetch_count=2)
        held: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await (await consuming.get_queue("crm")).consume(held.put)
        first = await held.get()
        refused = await operator.run("apply", "--migrate", *SOON, "--patience", "0.5", subscribers=CRM)
        assert refused.code == 1
        assert "queue 'crm' is not moved: its consumers hold 2 messages for 0.5 s" in refused.stderr
        assert (await operator.document("plan", subscribers=CRM))["unfinished"] == []
        await first.ack()
        rest = [await held.get()]
        while len(rest) < 4:
            await rest[-1].ack()
            rest.append(await held.get())
        assert {message.message_id for message in (first, *rest)} == {f"id-{number}" for number in range(5)}
        await (await channel.get_exchange(NAMES.events)).publish(aio_pika.Message(b"{}"), "opened")
        await rest[-1].ack()
        assert (await held.get()).body == b"{}"


async def test_what_cannot_be_moved_is_named_and_the_rest_is_moved(operator: TopologyOperator) -> None:
    """A stream, and an exchange of another type: what to do instead. Exit code 1."""
    async with operator.channel() as channel:
        await channel.declare_exchange(NAMES.changes, "fanout", durable=True)
        await channel.declare_queue(NAMES.archive, durable=True, arguments={"x-queue-type": "stream"})
        await channel.declare_queue(NAMES.unrouted, durable=True)  # a classic one
    outcome = await operator.run("apply", "--migrate", *SOON)
    assert outcome.code == 1
    assert f"queue {NAMES.unrouted}: moved, with 0 messages" in outcome.stdout
    assert f"exchange '{NAMES.changes}' cannot be moved: delete it" in outcome.stderr
    assert f"queue '{NAMES.archive}' is a stream, which cannot be moved" in outcome.stderr
    left = await operator.document("plan")
    assert [one["name"] for one in left["differs"]] == [NAMES.changes, NAMES.archive]


async def test_a_user_without_the_right_moves_nothing_and_leaves_nothing_half_done(
    operator: TopologyOperator, counting: Managed, prefix: str
) -> None:
    """One of two queues could be moved: neither is, and one line names the right."""
    async with operator.channel() as channel:
        for queue in ("crm", NAMES.malformed):
            await channel.declare_queue(queue, durable=True, arguments=QUORUM)
    await operator.run("apply", subscribers=CRM)
    user = f"{prefix}limited"
    await counting.control.add_user(user, "secret", configure=".*")
    await counting.control.evaluate(
        f'rabbit_auth_backend_internal:set_tags(<<"{user}">>, [management], <<"t">>).'
    )
    await counting.control.set_permissions(user, configure="^(?!crm.moving).*$", host=prefix)
    limited = {"BRIDGE_RABBITMQ__URL": str(URL(operator.url).with_user(user).with_password("secret"))}
    refused = await operator.run("apply", "--migrate", *SOON, subscribers=CRM, **limited)
    assert refused.code == 1
    assert "bridge: the broker user may not declare queue 'crm.moving'" in refused.stderr
    left = await operator.document("plan", subscribers=CRM)
    assert (left["create"], left["unfinished"], left["stray"]) == ([], [], [])
    assert {one["name"] for one in left["differs"]} == {"crm", NAMES.malformed}


async def test_a_single_active_consumer_that_takes_nothing_is_named(operator: TopologyOperator) -> None:
    """RabbitMQ gives the messages to nobody else on 3.10; on 4 the move goes first. Either way none is lost."""
    async with operator.channel() as channel, operator.channel() as consuming:
        await channel.declare_queue(
            "crm", durable=True, arguments=QUORUM | {"x-single-active-consumer": True}
        )
        await operator.run("apply", subscribers=CRM)
        await consuming.set_qos(prefetch_count=1)
        held: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await (await consuming.get_queue("crm")).consume(held.put)
        await send(operator, [plain(number) for number in range(3)])
        await held.get()
        refused = await operator.run("apply", "--migrate", *SOON, "--patience", "0.5", subscribers=CRM)
        assert refused.code == 1
        assert "queue 'crm' is not moved: " in refused.stderr
    assert len(await taken(operator, "crm", 3)) == 3


def plain(number: int) -> Message:
    properties = spec.Basic.Properties(message_id=f"id-{number}", delivery_mode=2, timestamp=None)
    return Message(NAMES.events, "opened", f"id-{number}", properties.marshal(), b"{}")


def messages() -> list[Message]:
    """With all properties; with keys that would lead to other queues; and what pamqp cannot decode."""
    full = spec.Basic.Properties(
        content_type="application/json", content_encoding="gzip", delivery_mode=2, priority=3,
        correlation_id="c", reply_to="r", expiration="600000", message_id="full", message_type="opened", app_id="bridge",
        headers={"CC": ["untouched", "crm.dead"], "cloudEvents:id": "1", "x-death": [{"count": 1, "queue": "former"}]},
    )  # fmt: skip
    return [
        Message(NAMES.events, "opened", "full", full.marshal(), b"\x00\xff"),
        Message(NAMES.events, "clicked", "", spec.Basic.Properties().marshal(), b""),
        *(Message(NAMES.events, "opened", "bad-1", raw, b"{}") for raw in UNDECODABLE.values()),
        *(plain(number) for number in range(500)),
    ]


async def send(operator: TopologyOperator, wanted: list[Message]) -> None:
    """Publish them as they are."""
    async with publish_channel(operator) as channel:
        failed: list[object] = []
        for message in wanted:
            channel.send(message, failed.append)
        await channel.wait_until_idle()
        assert set(failed) == {None}


@asynccontextmanager
async def publish_channel(operator: TopologyOperator) -> AsyncIterator[PublishChannel]:
    connection = await open_connection(operator.url, name="a test")
    channel = PublishChannel(PublishCounters(Metrics()), max_in_flight=100_000, on_problem=lambda _: None)
    channel.opened(await path_of(connection).open_confirm_channel(connection, channel))
    yield channel
    await connection.close()


async def taken(operator: TopologyOperator, queue: str, count: int) -> list[tuple[str, bytes, bytes]]:
    """What was in the queue, in its order: routing key, encoded properties, body."""
    connection = await open_connection(operator.url, name="a test")
    found: list[Delivery] = []
    consuming = Deliveries.open(connection, queue, prefetch=2000, acknowledge_every=None)
    async with asyncio.timeout(90), consuming as deliveries:
        while len(found) < count:
            found += await deliveries.receive()
        for one in found:
            await deliveries.acknowledge(one)
    await connection.close()
    return [(one.routing_key, one.properties, one.body) for one in found]
