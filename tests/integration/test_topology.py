"""What stands in RabbitMQ after a declaration, and what is said when it cannot stand."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelPreconditionFailed
from yarl import URL

from bridge.broker import declaring, topology
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError
from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from tests.conftest import TOKEN
from tests.support.wire import ask, post
from tests.support.working import body_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from bridge.settings.sections import Settings
    from tests.support.node import Control
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

QUORUM = {"x-queue-type": "quorum"}
KEPT: dict[str, str | int] = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
"""Of a queue that drops nothing, however often it is looked at or requeued."""
OTHER = {
    "x-queue-type": "classic",
    "x-max-age": "8D",
    "x-dead-letter-strategy": "at-most-once",
    "x-overflow": "drop-head",
}
"""For each argument that only takes certain values, one that is not the designed one."""


@pytest.mark.parametrize(
    ("delay", "name"),
    [(30, "30s"), (300, "5m"), (3600, "1h"), (90, "90s"), (7200.0, "2h"), (0.25, "250ms"), (1.5, "1500ms")],
)
def test_a_delay_queue_is_named_after_its_delay(delay: float, name: str) -> None:
    """In the largest unit that fits; never two delays under one name."""
    assert topology.Names("staging.").retry(delay) == f"staging.suppression.retry.{name}"


@pytest.fixture
def subscribed(overrides: dict[str, Any]) -> Settings:
    """Settings with two services that want events of their own."""
    subscribers = [
        {"queue": "billing", "events": ["delivered", "complined"]},
        {"queue": "everything", "events": ["#"]},
    ]
    return load_settings(overrides=overrides | {"subscribers": subscribers})


async def test_declaring_twice_changes_nothing(rabbit: Rabbit, settings: Settings) -> None:
    """It is idempotent, and messages that wait are still there."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"waits"), rabbit.names.suppression)
    await declaring.declare(rabbit.connection, planned_topology(settings))
    assert await rabbit.depth(rabbit.names.suppression) == 1


async def test_each_queue_has_the_designed_kind_and_arguments(rabbit: Rabbit, settings: Settings) -> None:
    """Durable, quorum but for the archive; the suppression queue dead-letters at least once."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    names = rabbit.names
    designed: dict[str, dict[str, Any]] = {
        names.archive: {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 2 * 1024**3,
        },
        names.unrouted: KEPT,
        names.malformed: KEPT,
        names.dead: KEPT,
        names.suppression: QUORUM
        | {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": names.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": 100,
        },
    }
    for delay in settings.worker.retry_delays:
        designed[names.retry(delay)] = QUORUM | {
            "x-message-ttl": round(delay * 1000),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": names.suppression,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    for queue, arguments in designed.items():
        async with rabbit.channel() as channel:
            await channel.declare_queue(queue, durable=True, arguments=arguments)
        for name, value in arguments.items():
            other = value - 1 if isinstance(value, int) else OTHER.get(name, "other")
            with pytest.raises(ChannelPreconditionFailed, match=name):
                async with rabbit.channel() as channel:
                    await channel.declare_queue(queue, durable=True, arguments=arguments | {name: other})


async def test_each_exchange_has_the_designed_kind(rabbit: Rabbit, settings: Settings) -> None:
    """Events and changes are topics, and events that no queue takes go on to a fanout."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    names = rabbit.names
    designed: dict[str, tuple[str, dict[str, Any]]] = {
        names.events: ("topic", {"alternate-exchange": names.unrouted}),
        names.unrouted: ("fanout", {}),
        names.changes: ("topic", {}),
    }
    for exchange, (kind, arguments) in designed.items():
        async with rabbit.channel() as channel:
            await channel.declare_exchange(exchange, kind, durable=True, arguments=arguments)
        with pytest.raises(ChannelPreconditionFailed):
            async with rabbit.channel() as channel:
                await channel.declare_exchange(exchange, "headers", durable=True, arguments=arguments)


async def test_the_suppression_queue_gets_what_the_policy_uses(rabbit: Rabbit, settings: Settings) -> None:
    """Hard bounces and complaints in either spelling, and nothing else."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    for key in ("hard_bounced", "complained", "complined", "soft_bounced", "opened", "malformed"):
        await publish(rabbit, key)
    async with rabbit.reading(rabbit.names.suppression) as suppression:
        keys = [message.routing_key for message in await suppression.take(3)]
        assert keys == ["hard_bounced", "complained", "complined"]
        assert suppression.waiting == 0


async def test_subscribers_get_queues_of_their_own(rabbit: Rabbit, subscribed: Settings) -> None:
    """Declared behind the prefix, bound to the names they list, in either spelling."""
    billing, everything = (f"{subscribed.rabbitmq.prefix}{queue}" for queue in ("billing", "everything"))
    try:
        await declaring.declare(rabbit.connection, planned_topology(subscribed))
        for key in ("opened", "delivered", "complained", "complined"):
            await publish(rabbit, key)
        async with rabbit.reading(billing) as listener:
            keys = [message.routing_key for message in await listener.take(3)]
            assert keys == ["delivered", "complained", "complined"]
        async with rabbit.reading(everything) as listener:
            assert len(await listener.take(4)) == 4
    finally:
        await rabbit.delete_subscribers("billing", "everything")


async def test_a_subscriber_may_requeue_as_often_as_he_likes(rabbit: Rabbit, subscribed: Settings) -> None:
    """RabbitMQ 4 drops a message after 20 times, in silence, where nothing else is said."""
    billing = f"{subscribed.rabbitmq.prefix}billing"
    try:
        await declaring.declare(rabbit.connection, planned_topology(subscribed))
        await publish(rabbit, "delivered")
        async with rabbit.channel() as channel:
            queue = await channel.get_queue(billing)
            for _ in range(25):
                await (await queue.get(timeout=90)).reject(requeue=True)
            assert (await queue.get(timeout=90)).routing_key == "delivered"
    finally:
        await rabbit.delete_subscribers("billing", "everything")


@pytest.mark.parametrize("mode", ["auto", "always"])
async def test_a_queue_of_an_earlier_release_without_our_delivery_limit_stands(
    rabbit: Rabbit, settings: Settings, mode: str
) -> None:
    """Nothing is refused, and it is bound."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(rabbit.names.unrouted, durable=True, arguments=dict(QUORUM))
    planned = planned_topology(settings)
    assert await declaring.apply_topology(rabbit.connection, planned, mode, required=()) == ()


@pytest.mark.parametrize("mode", ["auto", "always"])
async def test_a_subscribers_queue_of_an_earlier_release_gets_its_events(
    rabbit: Rabbit, subscribed: Settings, mode: str
) -> None:
    """It has no dead letters: it is named, with what to do, and bound as it is; so is the other one."""
    billing = f"{subscribed.rabbitmq.prefix}billing"
    async with rabbit.channel() as channel:
        await channel.declare_queue(billing, durable=True, arguments={**KEPT})
    try:
        planned = planned_topology(subscribed)
        [refused] = await declaring.apply_topology(rabbit.connection, planned, mode, required=())
        assert (refused.part.name, refused.part.subscriber, refused.required) == (billing, "billing", False)
        assert "it gets its messages all the same, and `bridge topology apply --migrate`" in str(
            refused.error
        )
        await publish(rabbit, "delivered")
        assert await rabbit.depth(billing) == 1
        assert await rabbit.depth(f"{subscribed.rabbitmq.prefix}everything") == 1
    finally:
        await rabbit.delete_subscribers("billing", "everything")


async def test_a_subscribers_queue_has_its_limits_and_its_dead_letters(
    rabbit: Rabbit, overrides: dict[str, Any]
) -> None:
    """Its own settings become its arguments; it gets events and changes; what it rejects is in the second queue."""
    crm = {"queue": "crm", "events": ["*bounced"], "changes": True, "max_length": 1000, "ttl": 60.5}
    crm |= {"delivery_limit": 5, "single_active_consumer": True}
    subscribed = load_settings(overrides=overrides | {"subscribers": [crm]})
    own, dead = f"{rabbit.names.prefix}crm", f"{rabbit.names.prefix}crm.dead"
    planned = planned_topology(subscribed)
    arguments = {queue.name: dict(queue.arguments) for queue in planned.queues if queue.of_subscriber}
    assert arguments == {
        dead: KEPT | {"x-overflow": "drop-head"},
        own: QUORUM
        | {
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
            "x-delivery-limit": 5,
            "x-max-length": 1000,
            "x-message-ttl": 60_500,
            "x-single-active-consumer": True,
        },
    }
    try:
        await declaring.declare(rabbit.connection, planned)
        for key in ("soft_bounced", "opened", "hard_bounced"):
            await publish(rabbit, key)
        async with rabbit.channel() as channel:
            await (await channel.get_exchange(rabbit.names.changes)).publish(aio_pika.Message(b"{}"), "added")
            arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await (await channel.get_queue(own)).consume(arrivals.put)
            messages = [await arrivals.get() for _ in range(3)]
            assert [one.routing_key for one in messages] == ["soft_bounced", "hard_bounced", "added"]
            for message in messages:
                await message.reject(requeue=False)
        async with rabbit.reading(dead) as listener:
            assert len(await listener.take(3)) == 3
    finally:
        await rabbit.delete_subscribers("crm")


async def test_a_queue_with_other_arguments_is_named(rabbit: Rabbit, settings: Settings) -> None:
    """The message says which queue, which argument, what it is and what it should be, and what to do."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(rabbit.names.suppression, durable=True, arguments={**QUORUM})
    with pytest.raises(TopologyMismatchError) as mismatch:
        await declaring.declare(rabbit.connection, planned_topology(settings))
    said = str(mismatch.value)
    assert f"queue '{rabbit.names.suppression}'" in said
    assert "argument 'x-dead-letter-exchange'" in said
    assert "but current is none" in said
    assert "`bridge topology apply --migrate` moves a queue to them" in said
    assert "\n" not in said


async def test_an_exchange_of_another_kind_is_named(rabbit: Rabbit, settings: Settings) -> None:
    """Exchanges are told of in the same way as queues."""
    async with rabbit.channel() as channel:
        await channel.declare_exchange(rabbit.names.events, "direct", durable=True)
    with pytest.raises(TopologyMismatchError) as mismatch:
        await declaring.declare(rabbit.connection, planned_topology(settings))
    assert f"exchange '{rabbit.names.events}'" in str(mismatch.value)
    assert "argument 'type'" in str(mismatch.value)
    assert "'topic'" in str(mismatch.value)
    assert "'direct'" in str(mismatch.value)


async def test_never_only_looks(rabbit: Rabbit, settings: Settings) -> None:
    """`declare = "never"`: what is missing is named and stays missing; what stands is enough."""
    with pytest.raises(DeclareRefusedError, match=r"exchange '.*' is missing .* run `bridge topology apply`"):
        await declaring.apply_all(rabbit.connection, planned_topology(settings), "never")
    assert not await rabbit.stands(rabbit.names.suppression)
    await declaring.declare(rabbit.connection, planned_topology(settings))
    await declaring.apply_all(rabbit.connection, planned_topology(settings), "never")
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
    with pytest.raises(DeclareRefusedError, match=f"queue '{rabbit.names.dead}' is missing"):
        await declaring.apply_all(rabbit.connection, planned_topology(settings), "never")


async def test_a_user_who_may_not_declare_works_on_what_stands(
    rabbit: Rabbit, settings: Settings, control: Control, amqp_url: str, prefix: str
) -> None:
    """Without the permission to configure: `auto` checks and goes on, `always` says what is not allowed."""
    user = f"{prefix}limited"
    await control.add_user(user, "a-password", configure="^$")
    url = URL(amqp_url).with_user(user).with_password("a-password")
    async with await aio_pika.connect(str(url)) as limited:
        with pytest.raises(DeclareRefusedError, match=r"is missing .* run `bridge topology apply`"):
            await declaring.apply_all(limited, planned_topology(settings), "auto")
        await declaring.declare(rabbit.connection, planned_topology(settings))
        await declaring.apply_all(limited, planned_topology(settings), "auto")
        with pytest.raises(DeclareRefusedError) as refused:
            await declaring.apply_all(limited, planned_topology(settings), "always")
    said = str(refused.value)
    assert f"may not declare exchange '{rabbit.names.unrouted}'" in said
    assert f"user '{user}'" in said
    assert "bridge topology apply" in said
    assert "\n" not in said


async def test_a_refused_part_costs_only_itself(rabbit: Rabbit, subscribed: Settings) -> None:
    """A subscriber's classic queue is bound all the same, and everything else is declared and bound."""
    billing, everything = (f"{subscribed.rabbitmq.prefix}{queue}" for queue in ("billing", "everything"))
    async with rabbit.channel() as channel:
        await channel.declare_queue(billing, durable=True)
    try:
        [refused] = await declaring.apply_topology(
            rabbit.connection, planned_topology(subscribed), "auto", required={rabbit.names.suppression}
        )
        assert (refused.part.name, refused.required) == (billing, False)
        assert "it gets its messages all the same" in str(refused.error)
        await publish(rabbit, "delivered")
        await publish(rabbit, "hard_bounced")
        assert [await rabbit.depth(queue) for queue in (billing, everything)] == [1, 2]
        assert await rabbit.depth(rabbit.names.suppression) == 1
    finally:
        await rabbit.delete_subscribers("billing", "everything")


async def test_a_queue_of_another_connection_alone_costs_only_itself(
    rabbit: Rabbit, subscribed: Settings, amqp_url: str
) -> None:
    """RabbitMQ locks an exclusive queue: that closes a channel, and must not count as a lost connection."""
    billing, everything = (f"{subscribed.rabbitmq.prefix}{queue}" for queue in ("billing", "everything"))
    async with await aio_pika.connect(amqp_url) as other, other.channel() as channel:
        await channel.declare_queue(billing, exclusive=True)
        [refused] = await declaring.apply_topology(
            rabbit.connection, planned_topology(subscribed), "auto", required=()
        )
    assert "is exclusive to another connection" in str(refused.error)
    async with rabbit.channel() as channel:
        await channel.queue_delete(everything)


async def test_a_required_part_is_reported_as_such(rabbit: Rabbit, settings: Settings) -> None:
    """An exchange of another kind does not route as planned; one with another alternate exchange does."""
    async with rabbit.channel() as channel:
        await channel.declare_exchange(rabbit.names.events, "topic", durable=True)
        await channel.declare_exchange(rabbit.names.changes, "fanout", durable=True)
    required = {rabbit.names.events, rabbit.names.changes}
    refused = await declaring.apply_topology(
        rabbit.connection, planned_topology(settings), "auto", required=required
    )
    assert [(one.part.name, one.required) for one in refused] == [
        (rabbit.names.events, False),
        (rabbit.names.changes, True),
    ]
    with pytest.raises(TopologyMismatchError, match=rabbit.names.changes):
        declaring.raise_if_required(refused)


@pytest.mark.parametrize("processes_behind_the_port", [1, 2])
async def test_a_receiver_works_around_a_queue_with_other_arguments(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, processes_behind_the_port: int
) -> None:
    """An archive as it was before `archive_max_age` was changed, a subscriber's classic queue: it tells, and confirms."""
    crm = f"{overrides['rabbitmq']['prefix']}crm"
    async with rabbit.channel() as channel:
        await channel.declare_queue(
            rabbit.names.archive, durable=True, arguments={"x-queue-type": "stream", "x-max-age": "1D"}
        )
        await channel.declare_queue(crm, durable=True)
    overrides["subscribers"] = [{"queue": "crm", "events": ["opened"]}]
    overrides["receiver"]["processes"] = processes_behind_the_port
    receiver = await processes.start("receiver", overrides=overrides)
    told = await receiver.says("topology.subscriber_differs")
    assert told["name"] == crm
    assert "it gets its messages all the same" in told["reason"]
    assert (await receiver.says("topology.refused"))["name"] == rabbit.names.archive
    await receiver.says("broker.connected", times=processes_behind_the_port)
    port = (await receiver.says("receiver.started"))["port"]
    answer = await ask(port, post(body_of("hard_bounced", 1), token=TOKEN))
    assert answer.json["durability"] == "confirmed"
    assert await rabbit.depth(rabbit.names.suppression) == 1
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0
    await rabbit.delete_subscribers("crm")


@pytest.mark.parametrize("processes_behind_the_port", [1, 2])
async def test_a_receiver_starts_whatever_rabbitmq_says(
    processes: Processes,
    overrides: dict[str, Any],
    rabbit: Rabbit,
    settings: Settings,
    processes_behind_the_port: int,
) -> None:
    """`declare = "never"` on an empty broker: it spools, and goes on by itself when somebody has declared."""
    overrides["rabbitmq"]["declare"] = "never"
    overrides["receiver"]["processes"] = processes_behind_the_port
    receiver = await processes.start("receiver", overrides=overrides)
    told = await receiver.says("topology.refused", name=rabbit.names.events)
    assert told["reason"].endswith("run `bridge topology apply`")
    port = (await receiver.says("receiver.started"))["port"]
    answer = await ask(port, post(body_of("hard_bounced", 1), token=TOKEN))
    assert answer.json["durability"] == "spooled"
    await declaring.declare(rabbit.connection, planned_topology(settings))
    await receiver.says("spool.drained")
    assert await rabbit.depth(rabbit.names.suppression) == 1
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0


async def publish(rabbit: Rabbit, key: str) -> None:
    async with rabbit.channel() as channel:
        exchange = await channel.get_exchange(rabbit.names.events)
        await exchange.publish(aio_pika.Message(b"{}"), key)


async def test_what_the_user_may_declare_is_made_again(
    rabbit: Rabbit, settings: Settings, control: Control, amqp_url: str, prefix: str
) -> None:
    """`auto`, as a user who may configure one queue only: it makes that queue and its bindings, and checks the rest."""
    user, queue = f"{prefix}worker", rabbit.names.suppression
    await control.add_user(user, "a-password", configure=f"^{queue}$")
    await declaring.declare(rabbit.connection, planned_topology(settings))
    async with rabbit.channel() as channel:
        await channel.queue_delete(queue)
    url = URL(amqp_url).with_user(user).with_password("a-password")
    async with await aio_pika.connect(str(url)) as limited:
        await declaring.apply_all(limited, planned_topology(settings), "auto")
    await publish(rabbit, "hard_bounced")
    async with rabbit.reading(queue) as suppression:
        assert (await suppression.next()).routing_key == "hard_bounced"
