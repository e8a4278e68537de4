"""A queue of another service is added and removed while everything runs, and never holds up the receiver."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
import pytest

from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.operations import subscribers as operations
from bridge.roles.change_topology import nobody_publishes
from bridge.roles.registered_subscribers import RegisteredSubscribers
from bridge.roles.role_topology import RoleTopology
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.suppression.store import Store
from bridge.worker import backfill
from tests.conftest import TOKEN
from tests.support.wire import ask, post
from tests.support.working import body_of, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

CRM = Subscriber(queue="crm", events=("*bounced",), changes=True)


@pytest.fixture
async def rabbit(rabbit: Rabbit) -> AsyncIterator[Rabbit]:
    """What stands for subscribers is deleted, too."""
    yield rabbit
    await rabbit.delete_subscribers("crm")


@pytest.fixture
def on_either(overrides: dict[str, Any], database_url: str) -> Settings:
    """With the list in either database."""
    return load_settings(overrides=changed(overrides, suppression={"database_url": database_url}))


async def run(processes: Processes, overrides: dict[str, Any], *arguments: str) -> Process:
    """A command, to its end."""
    command = await processes.start("subscribers", *arguments, overrides=overrides)
    assert await command.ended() == 0, command.lines
    return command


async def test_a_new_subscriber_gets_its_first_event_after_one_command_and_no_restart(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """A receiver and a worker run all the while; when it is full its oldest are dead letters, and events are confirmed."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    await run(processes, overrides, "add", "crm", "--events", "*bounced", "--changes", "--max-length", "2")
    own, dead = f"{rabbit.names.prefix}crm", f"{rabbit.names.prefix}crm.dead"

    async def posted(name: str, message: int) -> str:
        answer = await ask(port, post(body_of(name, message), token=TOKEN))
        return str(answer.json["durability"])

    assert await posted("hard_bounced", 1) == "confirmed"
    async with rabbit.reading(own) as crm:
        messages = await crm.take(2)
        assert {one.routing_key for one in messages} == {"hard_bounced", "added"}, "the event, and its change"
    assert [await posted("soft_bounced", message) for message in range(2, 7)] == ["confirmed"] * 5
    async with rabbit.reading(dead) as letters:
        oldest = await letters.take(3)
    assert [orjson.loads(one.body)["message"]["id"] for one in oldest] == [2, 3, 4]
    assert await rabbit.depth(own) == 2

    removed = await run(processes, overrides, "remove", "crm", "--yes", "--json")
    assert orjson.loads("\n".join(removed.printed)) == {
        "removed": "crm",
        "deleted": [own, dead],
        "messages": 2,
    }
    assert not await rabbit.stands(own)
    assert not await rabbit.stands(dead)
    assert await posted("hard_bounced", 7) == "confirmed"


async def test_a_worker_declares_again_what_is_registered_until_it_is_removed(
    on_either: Settings, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that was deleted by hand is back with its bindings; one that was removed never is."""
    monkeypatch.setattr(backfill, "_CHECK_SECONDS", 0.05)
    own = f"{rabbit.names.prefix}crm"
    async with working(on_either):
        await operations.add(on_either, CRM, actor="ann", as_it_is=False)
        await rabbit.delete_subscribers("crm")
        await stands_again(rabbit, own)
        async with rabbit.channel() as channel, asyncio.timeout(90):
            exchange = await channel.get_exchange(rabbit.names.events)
            while not await rabbit.depth(own):  # it is bound a moment later
                await exchange.publish(aio_pika.Message(b"{}"), "soft_bounced")
        await operations.remove(on_either, await operations.preview_removal(on_either, "crm"))
        # The first may be of a declaration that had begun before the removal, and cleans up after itself at its end.
        for _ in range(2):
            async with rabbit.channel() as channel:
                await channel.queue_delete(rabbit.names.malformed)
            await stands_again(rabbit, rabbit.names.malformed)
        assert not await rabbit.stands(own)


async def test_what_is_declared_while_it_is_removed_is_deleted_again(
    on_either: Settings, rabbit: Rabbit
) -> None:
    """A worker has read the registry just before; what somebody already uses again is left, and named in the log."""
    async with Store.open(on_either.suppression.database_url.get_secret_value()) as store:
        registered = RegisteredSubscribers(store.subscribers, prefix=rabbit.names.prefix, of_settings=())
        topology = _of_worker(on_either, store, registered)
        assert await topology.declare(rabbit.connection)
        await operations.add(on_either, CRM, actor="ann", as_it_is=False)
        before = await registered.read()
        await operations.remove(on_either, await operations.preview_removal(on_either, "crm"))
        for used in (False, True):
            async with rabbit.channel() as channel:
                for name in ("crm", "crm.dead"):
                    await channel.declare_queue(
                        f"{rabbit.names.prefix}{name}", durable=True, arguments={"x-queue-type": "quorum"}
                    )
                if used:
                    queue = f"{rabbit.names.prefix}crm"
                    await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
            await registered.clean_up(rabbit.connection, before)
            assert await rabbit.stands(f"{rabbit.names.prefix}crm") == used
            assert not await rabbit.stands(f"{rabbit.names.prefix}crm.dead")


async def test_while_the_database_is_away_a_worker_declares_what_it_knew(
    settings: Settings, rabbit: Rabbit, tmp_path: Path
) -> None:
    """So a queue that is deleted then is back, too."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        registered = RegisteredSubscribers(store.subscribers, prefix=rabbit.names.prefix, of_settings=())
        topology = _of_worker(settings, store, registered)
        await topology.declare(rabbit.connection)
        await operations.add(settings, CRM, actor="ann", as_it_is=False)
        await topology.declare(rabbit.connection)
        await rabbit.delete_subscribers("crm")
        (tmp_path / "list.sqlite3").rename(tmp_path / "away.sqlite3")
        assert await topology.declare(rabbit.connection)
        assert await rabbit.stands(f"{rabbit.names.prefix}crm")


@pytest.mark.parametrize(
    "arguments", [{}, {"x-queue-type": "quorum", "x-max-length": 3}, {"x-queue-type": "stream"}]
)
async def test_a_queue_that_its_team_declared_with_other_arguments_stops_no_role(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, arguments: dict[str, Any]
) -> None:
    """Receiver and worker start, name it in their logs, and it gets its events."""
    own = f"{rabbit.names.prefix}crm"
    async with rabbit.channel() as channel:
        await channel.declare_queue(own, durable=True, arguments=arguments)
    subscribed = overrides | {"subscribers": [{"queue": "crm", "events": ["hard_bounced"], "ttl": 60}]}
    receiver = await processes.start("receiver", overrides=subscribed)
    worker = await processes.start("worker", overrides=subscribed)
    for role in (receiver, worker):
        differs = await role.says("topology.subscriber_differs")
        assert (differs["level"], differs["name"]) == ("warning", own)
        assert "it gets its messages all the same" in differs["reason"]
    await worker.says("worker.started")
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.listening(rabbit.names.changes, "added") as changes:
        answer = await ask(port, post(body_of("hard_bounced", 1), token=TOKEN))
        assert answer.json["durability"] == "confirmed"
        await changes.next()
    async with asyncio.timeout(90):
        while not await rabbit.depth(own):  # a stream counts what is in it after the confirm
            pass


async def stands_again(rabbit: Rabbit, queue: str) -> None:
    async with asyncio.timeout(90):
        while not await rabbit.stands(queue):
            pass


async def test_two_that_add_the_same_at_once(on_either: Settings, rabbit: Rabbit) -> None:
    """One does, the other is told so; the queues are those of the one."""
    other = Subscriber(queue="crm", events=("opened",), max_length=5)
    await declaring.declare(rabbit.connection, planned_topology(on_either))
    outcomes = await asyncio.gather(
        *(operations.add(on_either, one, actor="ann", as_it_is=False) for one in (CRM, other)),
        return_exceptions=True,
    )
    [added] = [one for one in outcomes if isinstance(one, operations.Added)]
    [refused] = [one for one in outcomes if not isinstance(one, operations.Added)]
    assert "'crm' is" in str(refused)
    [registered] = await operations.registered_subscribers(on_either)
    assert (registered.subscriber, registered.in_force) == (added.registered.subscriber, True)
    assert [one.queue for one in await operations.all_subscribers(on_either)] == ["crm"]
    topology = planned_topology(on_either, [added.registered.subscriber])
    assert await declaring.apply_topology(rabbit.connection, topology, "always", required=()) == ()


def _of_worker(settings: Settings, store: Store, registered: RegisteredSubscribers) -> RoleTopology:
    return RoleTopology(
        settings,
        planned_topology(settings),
        frozenset(),
        registered=registered,
        may_make_changes=partial(nobody_publishes, store.outbox),
    )
