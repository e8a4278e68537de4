"""A queue of somebody else's that rejects publishes: who is told of it, and in which words."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aio_pika
from aiohttp import ClientSession
from structlog.testing import capture_logs
from yarl import URL

from bridge.development.emission import event_body
from bridge.diagnostics.doctor import run_checks
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.telemetry.metrics import Metrics
from tests.conftest import TOKEN
from tests.support.eventually import eventually
from tests.support.rabbit import Rabbit
from tests.support.receiving import designed, receiving
from tests.support.working import AT, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Settings
    from tests.support.managed import Managed

Overrides = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A receiver on a virtual host of the test's own, and a team that has a quorum queue there, bound to `clicked`."""

    settings: Settings
    port: int
    host: str
    managed: Managed
    client: ClientSession

    async def post(self, name: str, number: int) -> str:
        url = f"http://127.0.0.1:{self.port}/webhooks/msndr/{TOKEN}"
        async with self.client.post(url, data=event_body(name, number, AT, {})) as answer:
            return str((await answer.json())["durability"])

    async def becomes_full(self) -> None:
        """A quorum queue takes one more than its limit."""
        async with asyncio.timeout(90):
            while await self.post("clicked", 1) != "spooled":
                pass


@asynccontextmanager
async def scene(managed: Managed, overrides: Overrides, queue: str, **arguments: Any) -> AsyncIterator[Scene]:
    settings = load_settings(
        overrides=changed(overrides, rabbitmq={"urls": [managed.url], "management_url": managed.api})
    )
    host = URL(managed.url).path.strip("/")
    async with (
        await aio_pika.connect(managed.url) as connection,
        receiving(settings, Metrics(), designed(settings)) as receiver,
        ClientSession() as client,
    ):
        await receiver.line.up()
        rabbit = Rabbit(connection, settings.rabbitmq.prefix)
        async with rabbit.channel() as channel:
            made = await channel.declare_queue(
                queue, durable=True, arguments={"x-queue-type": "quorum"} | arguments
            )
            await made.bind(rabbit.names.events, "clicked")
        yield Scene(settings, receiver.port, host, managed, client)


async def doctors_line(settings: Settings) -> tuple[str, str, str]:
    [found] = [one for one in await run_checks(lambda: settings) if one.check == "queues that refuse"]
    return found.status.value, found.seen, found.advice


async def test_a_policy_that_makes_a_subscribers_queue_reject(managed: Managed, overrides: Overrides) -> None:
    """It wins over the queue's own `drop-head`. The receiver's log and the doctor name queue, policies and what all pay."""
    async with scene(managed, overrides, "crm", **{"x-overflow": "drop-head"}) as at:
        await managed.control.set_policy(at.host, "cap", "^crm$", overflow="reject-publish", max_length=100)
        await managed.control.set_policy(at.host, "house", "^crm$", operator=True, max_length=1)
        with capture_logs() as logs:
            await at.becomes_full()
            assert await at.post("opened", 2) == "confirmed"

            def named() -> list[Any]:
                return [line for line in logs if line["action"] == "receiver.queue_rejects"]

            await eventually(lambda: bool(named()))
        [line] = named()
        assert (line["queue"], line["routing_keys"]) == ("crm", ["clicked"])
        assert line["set_by"] == "policy 'cap' and operator policy 'house'"
        assert line["seen"].endswith(" of max-length 1, by policy 'cap' and operator policy 'house'")
        assert "it costs everybody" in line["event"]
        [nacked] = [line for line in logs if line["action"] == "spool.nacked"][:1]
        assert nacked["by_routing_key"] == {"clicked": 1}
        assert "`bridge doctor` names the queue" in nacked["event"]
        async with asyncio.timeout(90):  # RabbitMQ counts every 5 s
            while (found := await doctors_line(at.settings))[0] != "failed":
                pass
        _, seen, advice = found
        assert seen.startswith("queue 'crm' is full and rejects: ")
        assert seen.endswith(" of max-length 1, by policy 'cap' and operator policy 'house'")
        assert "It costs everybody: while it is full, RabbitMQ nacks each event for it" in advice
        assert "clear_operator_policy" in advice


async def test_a_full_queue_of_a_subscriber_holds_up_nobody(rabbit: Rabbit, settings: Settings) -> None:
    """Every event is confirmed at once, into the queue of another subscriber, too; the oldest are its dead letters."""
    full = Subscriber(queue="crm", events=("clicked",), max_length=5)
    other = Subscriber(queue="shop", events=("#",))
    settings = settings.model_copy(update={"subscribers": (full, other)})
    prefix = settings.rabbitmq.prefix
    async with receiving(settings, Metrics(), designed(settings)) as receiver, ClientSession() as client:
        await receiver.line.up()
        url = f"http://127.0.0.1:{receiver.port}/webhooks/msndr/{TOKEN}"
        answers = []
        for number in range(20):
            async with client.post(url, data=event_body("clicked", number, AT, {})) as answer:
                answers.append((await answer.json())["durability"])
        assert answers == ["confirmed"] * 20
        async with rabbit.reading(f"{prefix}shop") as shop, rabbit.reading(f"{prefix}crm.dead") as dead:
            everything = [one.message_id for one in await shop.take(20)]
            dropped = await dead.take(15)
            assert [one.message_id for one in dropped] == everything[:15]
            assert {one.headers["x-first-death-reason"] for one in dropped} == {"maxlen"}
        async with rabbit.reading(f"{prefix}crm") as own:
            assert [one.message_id for one in await own.take(5)] == everything[15:]


async def test_without_the_management_api_the_log_says_where_to_look(
    managed: Managed, overrides: Overrides
) -> None:
    """The receiver sees the routing key only; that the doctor names the queue is in the line."""
    blind = replace(managed, api="http://127.0.0.1:1")
    limits = {"x-overflow": "reject-publish", "x-max-length": 0}
    with capture_logs() as logs:
        async with scene(blind, overrides, "crm", **limits) as at:
            await at.becomes_full()
            await eventually(lambda: any(line["action"] == "receiver.nack_cause_unseen" for line in logs))
    [line] = [line for line in logs if line["action"] == "receiver.nack_cause_unseen"]
    assert line["routing_keys"] == ["clicked"]
    assert "`bridge doctor` names the queue and the policy" in line["event"]
    assert "cannot be reached" in line["reason"]


async def test_a_policy_that_ends_the_rejecting(managed: Managed, overrides: Overrides) -> None:
    """Of a quorum queue's own `reject-publish` a policy `drop-head` makes nothing that rejects, and the doctor knows it."""
    limits = {"x-overflow": "reject-publish", "x-max-length": 5}
    async with scene(managed, overrides, "crm", **limits) as at:
        assert (await doctors_line(at.settings))[0] == "warning"
        await managed.control.set_policy(at.host, "drop", "^crm$", overflow="drop-head")
        async with asyncio.timeout(90):
            while (await doctors_line(at.settings))[0] != "ok":
                pass
        assert [await at.post("clicked", number) for number in range(10)] == ["confirmed"] * 10
