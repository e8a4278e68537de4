"""What stands in RabbitMQ after a declaration, and what is said when it cannot stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelPreconditionFailed
from yarl import URL

from bridge import settings as knobs
from bridge.broker import declaring, topology
from bridge.broker.declaring import DeclareRefusedError, TopologyMismatchError

if TYPE_CHECKING:
    from bridge.broker.topology import Topology
    from bridge.settings import Settings
    from tests.support.node import Control
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

QUORUM = {"x-queue-type": "quorum"}
OTHER = {
    "x-queue-type": "classic",
    "x-max-age": "8D",
    "x-dead-letter-strategy": "at-most-once",
    "x-overflow": "drop-head",
}
"""For each argument that only takes certain values, one that is not the designed one."""


def planned(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq,
        suppressing=settings.suppression.events,
        subscribers=settings.subscribers,
        retry_delays=settings.worker.retry_delays,
    )


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
    return knobs.load(overrides=overrides | {"subscribers": subscribers})


async def test_declaring_twice_changes_nothing(rabbit: Rabbit, settings: Settings) -> None:
    """It is idempotent, and messages that wait are still there."""
    await declaring.declare(rabbit.connection, planned(settings))
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"waits"), rabbit.names.suppression)
    await declaring.declare(rabbit.connection, planned(settings))
    assert await rabbit.depth(rabbit.names.suppression) == 1


async def test_each_queue_has_the_designed_kind_and_arguments(rabbit: Rabbit, settings: Settings) -> None:
    """Durable, quorum but for the archive; the suppression queue dead-letters at least once."""
    await declaring.declare(rabbit.connection, planned(settings))
    names = rabbit.names
    designed: dict[str, dict[str, Any]] = {
        names.archive: {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 2 * 1024**3,
        },
        names.unrouted: QUORUM,
        names.malformed: QUORUM,
        names.dead: QUORUM | {"x-delivery-limit": 2**31 - 1},
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
    await declaring.declare(rabbit.connection, planned(settings))
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
    await declaring.declare(rabbit.connection, planned(settings))
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
        await declaring.declare(rabbit.connection, planned(subscribed))
        for key in ("opened", "delivered", "complained", "complined"):
            await publish(rabbit, key)
        async with rabbit.reading(billing) as listener:
            keys = [message.routing_key for message in await listener.take(3)]
            assert keys == ["delivered", "complained", "complined"]
        async with rabbit.reading(everything) as listener:
            assert len(await listener.take(4)) == 4
    finally:
        async with rabbit.channel() as channel:
            await channel.queue_delete(billing)
            await channel.queue_delete(everything)


async def test_a_queue_with_other_arguments_is_named(rabbit: Rabbit, settings: Settings) -> None:
    """The message says which queue, which argument, what it is and what it should be, and what to do."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(rabbit.names.suppression, durable=True, arguments={**QUORUM})
    with pytest.raises(TopologyMismatchError) as mismatch:
        await declaring.declare(rabbit.connection, planned(settings))
    said = str(mismatch.value)
    assert f"queue '{rabbit.names.suppression}'" in said
    assert "argument 'x-dead-letter-exchange'" in said
    assert "but current is none" in said
    assert "delete it" in said
    assert "\n" not in said


async def test_an_exchange_of_another_kind_is_named(rabbit: Rabbit, settings: Settings) -> None:
    """Exchanges are told of in the same way as queues."""
    async with rabbit.channel() as channel:
        await channel.declare_exchange(rabbit.names.events, "direct", durable=True)
    with pytest.raises(TopologyMismatchError) as mismatch:
        await declaring.declare(rabbit.connection, planned(settings))
    assert f"exchange '{rabbit.names.events}'" in str(mismatch.value)
    assert "argument 'type'" in str(mismatch.value)
    assert "'topic'" in str(mismatch.value)
    assert "'direct'" in str(mismatch.value)


async def test_never_only_looks(rabbit: Rabbit, settings: Settings) -> None:
    """`declare = "never"`: what is missing is named and stays missing; what stands is enough."""
    with pytest.raises(DeclareRefusedError, match=r"exchange '.*' is missing .* run `bridge topology apply`"):
        await declaring.ensure(rabbit.connection, planned(settings), "never")
    assert not await rabbit.stands(rabbit.names.suppression)
    await declaring.declare(rabbit.connection, planned(settings))
    await declaring.ensure(rabbit.connection, planned(settings), "never")
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
    with pytest.raises(DeclareRefusedError, match=f"queue '{rabbit.names.dead}' is missing"):
        await declaring.ensure(rabbit.connection, planned(settings), "never")


async def test_a_user_who_may_not_declare_works_on_what_stands(
    rabbit: Rabbit, settings: Settings, control: Control, amqp_url: str, prefix: str
) -> None:
    """Without the permission to configure: `auto` checks and goes on, `always` says what is not allowed."""
    user = f"{prefix}limited"
    await control.add_user(user, "a-password", configure="^$")
    url = URL(amqp_url).with_user(user).with_password("a-password")
    async with await aio_pika.connect(str(url)) as limited:
        with pytest.raises(DeclareRefusedError, match=r"is missing .* run `bridge topology apply`"):
            await declaring.ensure(limited, planned(settings), "auto")
        await declaring.declare(rabbit.connection, planned(settings))
        await declaring.ensure(limited, planned(settings), "auto")
        with pytest.raises(DeclareRefusedError) as refused:
            await declaring.ensure(limited, planned(settings), "always")
    said = str(refused.value)
    assert f"may not declare exchange '{rabbit.names.unrouted}'" in said
    assert f"user '{user}'" in said
    assert "bridge topology apply" in said
    assert "\n" not in said


async def test_a_receiver_on_another_topology_ends_with_one_line(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Exit code 1, and besides the log one line that names the queue and the argument: no traceback."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(rabbit.names.malformed, durable=True)
    receiver = await processes.start("receiver", overrides=overrides)
    assert await receiver.ended() == 1
    [line] = receiver.refused
    assert line.startswith(f"queue '{rabbit.names.malformed}' stands with other arguments")
    assert "argument 'x-queue-type'" in line


async def test_a_receiver_that_may_not_declare_ends_with_one_line(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """`declare = "never"` on an empty broker: what is missing, and who can make it."""
    overrides["rabbitmq"]["declare"] = "never"
    receiver = await processes.start("receiver", overrides=overrides)
    assert await receiver.ended() == 1
    [line] = receiver.refused
    assert line.startswith(f"exchange '{rabbit.names.unrouted}' is missing")
    assert line.endswith("run `bridge topology apply`")


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
    await declaring.declare(rabbit.connection, planned(settings))
    async with rabbit.channel() as channel:
        await channel.queue_delete(queue)
    url = URL(amqp_url).with_user(user).with_password("a-password")
    async with await aio_pika.connect(str(url)) as limited:
        await declaring.ensure(limited, planned(settings), "auto")
    await publish(rabbit, "hard_bounced")
    async with rabbit.reading(queue) as suppression:
        assert (await suppression.next()).routing_key == "hard_bounced"
