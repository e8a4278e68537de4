"""What a receiver makes again when it reconnects: all of the topology, but no suppression queue that was deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands as spec

from bridge.amqp.connection import Link
from bridge.amqp.message_types import Message, make_message
from bridge.amqp.publish_errors import LostError
from bridge.broker import declaring
from bridge.broker.lost_bindings import mark_lost
from bridge.broker.topology import Topology
from bridge.broker.topology_plan import planned_topology
from bridge.broker.topology_refusals import TopologyRefusals
from bridge.roles import publishing as role
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.role_topology import RoleTopology, required_by_receiver
from bridge.settings.loading import load_settings
from tests.support.eventually import eventually
from tests.support.working import changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher
    from bridge.broker.declaring import RefusedPart
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit


@pytest.fixture
def link(settings: Settings, metrics: Metrics) -> Link:
    return Link(settings.rabbitmq, use="publish", metrics=metrics)


@pytest.fixture
async def publisher(settings: Settings, link: Link, metrics: Metrics) -> AsyncIterator[Publisher]:
    """As the receiver's, on a topology that stands."""
    made = make_publisher(settings, link, metrics, window=10)
    standing = RoleTopology(settings, planned_topology(settings), required_by_receiver(settings))
    async with publishing(link, made, standing, keep_trying=True):
        async with asyncio.timeout(90):
            await link.up.wait()
        yield made


async def reconnect(publisher: Publisher, link: Link) -> None:
    """An exchange that is missing costs the channel, and so the session."""
    link.up.clear()
    with pytest.raises(LostError):
        await publisher.publish(to("nobody.has.made.this.exchange"))
    async with asyncio.timeout(90):
        await link.up.wait()


def to(exchange: str) -> Message:
    return make_message(
        exchange, "hard_bounced", spec.Basic.Properties(message_id="one", delivery_mode=2), b"{}"
    )


async def test_an_exchange_that_was_deleted_leads_to_the_suppression_queue_again(
    publisher: Publisher, link: Link, rabbit: Rabbit
) -> None:
    """Its bindings have gone with it; the queue stands, so they are made again before anything is published.

    Another receiver may have published in between: a marker has the queue filled from the archive.
    """
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.names.events)
    await reconnect(publisher, link)
    await publisher.publish(to(rabbit.names.events))
    assert await rabbit.depth(rabbit.names.suppression) == 1
    assert await rabbit.depth(rabbit.names.backfill) == 1


async def test_lost_bindings_of_the_suppression_queue_are_left_to_the_worker(
    publisher: Publisher, link: Link, rabbit: Rabbit
) -> None:
    """It has to find them missing to fill the queue from the archive. Found by seeds 32 and 39 of `make chaos`."""
    async with rabbit.channel() as channel:
        queue = await channel.get_queue(rabbit.names.suppression)
        await queue.unbind(rabbit.names.events, "hard_bounced")
    await reconnect(publisher, link)
    await publisher.publish(to(rabbit.names.events))
    assert await rabbit.depth(rabbit.names.suppression) == 0


async def test_a_suppression_queue_that_was_deleted_is_left_to_the_worker(
    publisher: Publisher, link: Link, rabbit: Rabbit
) -> None:
    """It must find it missing to fill it; until then the archive has what comes."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
    await reconnect(publisher, link)
    await publisher.publish(to(rabbit.names.events))
    async with rabbit.channel() as channel:
        with pytest.raises(ChannelNotFoundEntity):
            await channel.declare_queue(rabbit.names.suppression, passive=True)


@pytest.fixture
def topology_checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first wait for a check begins, which lasts for 30 s else."""
    monkeypatch.setattr(role, "TOPOLOGY_CHECK_SECONDS", 0.05)


@pytest.fixture
def topology_never_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is complete."""
    monkeypatch.setattr(role, "TOPOLOGY_CHECK_SECONDS", 3600.0)


@pytest.mark.usefixtures("topology_checked_often")
async def test_what_is_unbound_while_the_connection_lasts_is_bound_again(
    publisher: Publisher, rabbit: Rabbit
) -> None:
    """Nobody reconnects: the receiver looks again and again."""
    assert publisher.usable
    async with rabbit.channel() as channel:
        queue = await channel.get_queue(rabbit.names.malformed)
        await queue.unbind(rabbit.names.events, "malformed")
        exchange = await channel.get_exchange(rabbit.names.events)
        async with asyncio.timeout(90):
            while not await rabbit.depth(rabbit.names.malformed):
                await exchange.publish(aio_pika.Message(b"{}"), "malformed")


@pytest.mark.usefixtures("topology_never_checked_again")
async def test_what_somebody_is_still_declaring_is_seen_soon(
    rabbit: Rabbit, overrides: dict[str, Any], metrics: Metrics
) -> None:
    """As at the start of a stack, where it comes up in the middle of it: `status` does not say for half a minute what is over."""
    settings = load_settings(overrides=changed(overrides, rabbitmq={"declare": "never"}))
    planned = planned_topology(settings)
    refusals = TopologyRefusals(planned, metrics)
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    standing = RoleTopology(settings, planned, required_by_receiver(settings), refusals)
    await declaring.declare(rabbit.connection, Topology(planned.exchanges, (), ()))
    async with publishing(
        link, make_publisher(settings, link, metrics, window=10), standing, keep_trying=True
    ):
        async with asyncio.timeout(90):
            await link.up.wait()
        assert refusals.description()
        await declaring.declare(rabbit.connection, planned)
        await eventually(lambda: not refusals.description())


async def test_what_comes_while_the_exchange_is_made_anew_is_in_the_archive(
    settings: Settings, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others publish before all is bound again, and RabbitMQ confirms: the suppression queue is filled with it."""
    planned = planned_topology(settings)
    await declaring.declare(rabbit.connection, planned)
    whole = declaring.apply_topology

    async def meanwhile(
        connection: AbstractConnection, topology: Topology, mode: str, *, required: Collection[str]
    ) -> tuple[RefusedPart, ...]:
        if required:
            async with rabbit.channel() as channel:
                exchange = await channel.get_exchange(rabbit.names.events)
                await exchange.publish(aio_pika.Message(b"{}"), "hard_bounced")
        return await whole(connection, topology, mode, required=required)

    monkeypatch.setattr(declaring, "apply_topology", meanwhile)
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.names.events)
    assert await RoleTopology(settings, planned, required_by_receiver(settings)).declare(rabbit.connection)
    assert await rabbit.depth(rabbit.names.unrouted) == 0, "the archive has it"
    assert await rabbit.depth(rabbit.names.suppression) == 0
    assert await rabbit.depth(rabbit.names.backfill) == 1


async def test_a_worker_that_sees_no_bindings_knows_that_they_have_gone_with_the_exchange(
    settings: Settings, rabbit: Rabbit
) -> None:
    """Without the management API, too: the queue is filled from the archive."""
    planned = planned_topology(settings)
    await declaring.declare(rabbit.connection, planned)
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.names.events)

    async def unseen() -> list[str]:
        return []

    assert await mark_lost(rabbit.connection, planned, rabbit.names, "always", unseen)
    assert await rabbit.depth(rabbit.names.backfill) == 1
