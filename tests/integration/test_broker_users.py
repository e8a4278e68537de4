"""The users that `make secrets` makes for RabbitMQ: each may do its role's work, and nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiohttp import ClientSession
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from bridge.broker import declaring
from bridge.broker.topology import Names
from bridge.broker.topology_plan import SENT, planned_topology
from bridge.development.emission import event_body
from bridge.operations import subscribers
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.suppression.store import Store
from config import make_secrets
from tests.conftest import TOKEN
from tests.support.rabbit import Rabbit
from tests.support.working import AT, Workplace, bounced, bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from aio_pika.abc import AbstractChannel

    from tests.support.node import Control
    from tests.support.processes import Processes

NAMES = Names()


@dataclass(frozen=True, slots=True)
class House:
    """A virtual host of the test's own, with the stack's users, in which nothing has a prefix."""

    url: URL
    prefix: str

    def url_of(self, user: str) -> str:
        return str(self.url.with_user(f"{self.prefix}{user}").with_password(f"{user}-password"))

    def overrides_of(self, user: str, overrides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The tests' settings, for a role that is this user here."""
        return changed(overrides, rabbitmq={"urls": [self.url_of(user)], "prefix": ""})

    @asynccontextmanager
    async def as_user(self, user: str) -> AsyncIterator[Rabbit]:
        async with await aio_pika.connect(self.url_of(user)) as connection:
            yield Rabbit(connection, "")


@pytest.fixture
async def house(amqp_url: str, prefix: str, control: Control) -> AsyncIterator[House]:
    """As RabbitMQ reads it at its start; only the names of users and virtual host are the test's."""
    passwords = {f"rabbitmq_{user}_password": f"{user}-password" for user in make_secrets.USERS}
    definitions = make_secrets.definitions(passwords)
    for user in definitions["users"]:
        user["name"] = f"{prefix}{user['name']}"
    for permission in definitions["permissions"]:
        permission["user"] = f"{prefix}{permission['user']}"
        permission["vhost"] = prefix
    definitions["vhosts"] = [{"name": prefix}]
    del definitions["policies"]  # RabbitMQ 3.10 does not know them
    await control.import_definitions(definitions)
    yield House(URL(amqp_url).with_path(f"/{prefix}"), prefix)
    await control.delete_virtual_host(prefix)


async def declared(house: House, overrides: dict[str, Any], *subscribers: Subscriber) -> None:
    """What `bridge topology apply` does, as the user who may."""
    async with house.as_user("operator") as operator:
        settings = load_settings(overrides=house.overrides_of("operator", overrides))
        await declaring.declare(operator.connection, planned_topology(settings, subscribers))


async def test_the_receiver_confirms_events(
    house: House, overrides: dict[str, dict[str, Any]], processes: Processes
) -> None:
    """With `rabbitmq.declare = "never"`, on what somebody else has declared, its 200s say `confirmed`."""
    await declared(house, overrides)
    allowed = changed(house.overrides_of("receiver", overrides), rabbitmq={"declare": "never"})
    receiver = await processes.start("receiver", overrides=allowed)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with ClientSession() as client:
        url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
        async with client.post(url, data=event_body("opened", 1, AT, {})) as answer:
            assert (await answer.json())["durability"] == "confirmed"


async def test_the_worker_keeps_the_list(
    house: House, overrides: dict[str, dict[str, Any]], processes: Processes
) -> None:
    """It handles, tells of changes and parks what is no event, nor an announcement; its own queue, deleted, it makes again."""
    await declared(house, overrides)
    async with house.as_user("operator") as operator:
        settings = load_settings(overrides=house.overrides_of("operator", overrides))
        async with Workplace.prepared(operator, settings) as workplace:
            worker = await processes.start("worker", overrides=house.overrides_of("worker", overrides))
            await worker.says("worker.started")
            await workplace.send(*bounces([1, 2]))
            await workplace.put(b"no event")
            await workplace.changes(2)
            async with house.as_user("sender") as sender, sender.channel() as channel:
                exchange = await channel.get_exchange(NAMES.messages, ensure=False)
                await exchange.publish(aio_pika.Message(b"no announcement"), routing_key=SENT)
            async with operator.reading(NAMES.malformed) as quarantine:
                assert (await quarantine.next()).body == b"no announcement"
            async with operator.reading(NAMES.dead) as dead:
                assert (await dead.next()).body == b"no event"
            async with operator.channel() as channel:
                await channel.queue_delete(NAMES.suppression)
            await worker.says("worker.started", times=2)
            await workplace.send(*bounces([3]))
            await workplace.changes(3)
            assert await workplace.listed() == bounced([1, 2, 3])


async def test_a_consumer_reads_its_queue_its_dead_letters_and_the_changes(
    house: House, overrides: dict[str, dict[str, Any]]
) -> None:
    """The example's user: what it rejects it finds in its own dead letters, and it may bind its queue to the changes."""
    await declared(house, overrides, Subscriber(queue="crm", events=("opened",)))
    async with (
        house.as_user("operator") as operator,
        operator.channel() as publishing,
        house.as_user("crm") as consumer,
        consumer.channel() as channel,
    ):
        events = await publishing.get_exchange(NAMES.events, ensure=False)
        await events.publish(aio_pika.Message(b"bad"), routing_key="opened")
        queue = await channel.declare_queue("crm", passive=True)
        await (await queue.get(timeout=90)).reject(requeue=False)
        async with consumer.reading("crm.dead") as dead:
            assert (await dead.next()).body == b"bad"
        await queue.bind(NAMES.changes, "#")
        changes = await publishing.get_exchange(NAMES.changes, ensure=False)
        await changes.publish(aio_pika.Message(b"change"), routing_key="added")
        async with consumer.reading("crm") as own:
            assert (await own.next()).body == b"change"


async def test_the_operator_adds_a_subscriber_and_the_worker_works_on_without_its_queue(
    house: House, overrides: dict[str, dict[str, Any]], processes: Processes
) -> None:
    """The worker may not declare it again where it was deleted: it says so, and keeps the list; the operator may."""
    await declared(house, overrides)
    async with house.as_user("operator") as operator:
        settings = load_settings(overrides=house.overrides_of("operator", overrides))
        async with Workplace.prepared(operator, settings) as workplace:
            async with Store.open(settings.suppression.database_url.get_secret_value()):
                pass
            added = Subscriber(queue="shop", events=("hard_bounced",))
            await subscribers.add(settings, added, actor="ann", as_it_is=False)
            await operator.delete_subscribers("shop")
            worker = await processes.start("worker", overrides=house.overrides_of("worker", overrides))
            refused = await worker.says("topology.subscriber_refused", name="shop")
            assert "queue 'shop' is missing and may not be declared here" in refused["reason"]
            await worker.says("worker.started")
            again = planned_topology(settings, await subscribers.all_subscribers(settings))
            assert await declaring.apply_topology(operator.connection, again, "always", required=()) == ()
            async with house.as_user("worker") as limited:  # where it stands, nothing is refused
                assert await declaring.apply_topology(limited.connection, again, "auto", required=()) == ()
            await workplace.send(*bounces([1]))
            await workplace.changes(1)
            assert await operator.depth("shop") == 1


async def declares(channel: AbstractChannel) -> None:
    await channel.declare_queue("mine", durable=True, arguments={"x-queue-type": "quorum"})


async def deletes_the_events(channel: AbstractChannel) -> None:
    await channel.exchange_delete(NAMES.events)


async def deletes_the_archive(channel: AbstractChannel) -> None:
    await channel.queue_delete(NAMES.archive)


def publishes(exchange: str) -> Callable[[AbstractChannel], Coroutine[Any, Any, None]]:
    async def attempt(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False)
        await target.publish(aio_pika.Message(b"{}"), routing_key=NAMES.suppression)

    return attempt


def consumes(queue: str) -> Callable[[AbstractChannel], Coroutine[Any, Any, None]]:
    async def attempt(channel: AbstractChannel) -> None:
        chosen = await channel.get_queue(queue, ensure=False)
        await chosen.get(fail=False)

    return attempt


@pytest.mark.parametrize(
    ("user", "attempt"),
    [
        pytest.param("receiver", declares, id="the receiver declares"),
        pytest.param("receiver", deletes_the_events, id="the receiver deletes the exchange"),
        pytest.param("receiver", publishes(NAMES.changes), id="the receiver publishes changes of the list"),
        pytest.param("receiver", publishes(""), id="the receiver publishes past the exchange"),
        pytest.param("receiver", consumes(NAMES.suppression), id="the receiver consumes"),
        pytest.param("sender", declares, id="a sender declares"),
        pytest.param("sender", publishes(NAMES.events), id="a sender publishes events"),
        pytest.param("sender", publishes(""), id="a sender publishes past the exchange"),
        pytest.param("sender", consumes(NAMES.announced), id="a sender consumes"),
        pytest.param("worker", publishes(NAMES.messages), id="the worker announces"),
        pytest.param("worker", declares, id="the worker declares a queue that is none of its own"),
        pytest.param("worker", deletes_the_archive, id="the worker deletes the archive"),
        pytest.param("worker", publishes(NAMES.events), id="the worker publishes events"),
        pytest.param("worker", publishes(NAMES.unrouted), id="the worker publishes to what is not routed"),
        pytest.param("worker", consumes(NAMES.malformed), id="the worker consumes another queue"),
        pytest.param("crm", declares, id="a consumer declares"),
        pytest.param("crm", publishes(NAMES.events), id="a consumer publishes events"),
        pytest.param("crm", publishes(NAMES.changes), id="a consumer publishes changes of the list"),
        pytest.param("crm", publishes(""), id="a consumer publishes past the exchange"),
        pytest.param("crm", consumes(NAMES.dead), id="a consumer reads the worker's dead letters"),
    ],
)
async def test_what_is_not_its_role_is_refused(
    house: House,
    overrides: dict[str, dict[str, Any]],
    user: str,
    attempt: Callable[[AbstractChannel], Coroutine[Any, Any, None]],
) -> None:
    """RabbitMQ says no, and everything stands as before."""
    await declared(house, overrides)
    async with house.as_user(user) as limited, limited.channel() as channel:
        with pytest.raises(ChannelAccessRefused, match=r"ACCESS_REFUSED"):
            await attempt(channel)
    async with house.as_user("operator") as operator:
        assert await operator.stands(NAMES.archive)
        assert await operator.depth(NAMES.suppression) == 0
        assert not await operator.stands("mine")
