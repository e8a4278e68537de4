"""Changes of the list while their exchange stands without its bindings: none goes past a service that follows them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from bridge.broker import declaring
from bridge.broker.queue_counts import exchange_exists
from bridge.broker.topology import Topology
from bridge.broker.topology_plan import planned_topology
from bridge.operations import subscribers as operations
from bridge.roles.change_topology import nobody_publishes
from bridge.roles.role_topology import RoleTopology
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.suppression.store import Store
from bridge.worker import relay_refusals
from tests.support.eventually import eventually
from tests.support.working import changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from bridge.settings.sections import Settings
    from tests.support.rabbit import Listener, Rabbit

COPY = Subscriber(queue="copy", changes=True)
"""It is registered; `crm` is in the settings. A sender's copy of the list follows the changes like this."""


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], database_url: str) -> dict[str, Any]:
    subscribed = {"subscribers": [{"queue": "crm", "changes": True}]}
    return changed(overrides, suppression={"database_url": database_url}) | subscribed


@pytest.fixture
async def followers(settings: Settings, rabbit: Rabbit) -> AsyncIterator[Followers]:
    """Both, bound to the changes."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    await operations.add(settings, COPY, actor="ann", as_it_is=False)
    own = rabbit.names.prefix
    async with rabbit.reading(f"{own}crm") as crm, rabbit.reading(f"{own}copy") as copy:
        yield Followers(crm, copy)
    await rabbit.delete_subscribers("crm", "copy")


class Followers:
    def __init__(self, crm: Listener, copy: Listener) -> None:
        self._listeners = (crm, copy)

    async def crm(self) -> str | None:
        """What `crm` hears next."""
        return (await self._listeners[0].next()).message_id

    async def hear(self, *ids: str) -> None:
        """These changes, and no other, in this order: each of them."""
        for listener in self._listeners:
            assert [message.message_id for message in await listener.take(len(ids))] == list(ids)

    @property
    def unheard(self) -> int:
        return sum(listener.waiting for listener in self._listeners)


async def make_anew_without_bindings(rabbit: Rabbit, settings: Settings) -> None:
    """The exchange: as somebody does who has deleted it, or another worker that has yet to bind the queues."""
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.names.changes)
    planned = planned_topology(settings).exchanges
    await declaring.declare(rabbit.connection, Topology(planned, (), ()))


async def test_a_change_that_reaches_no_queue_is_published_again_when_the_queues_are_bound(
    settings: Settings, rabbit: Rabbit, followers: Followers
) -> None:
    """The worker's connection stands all the time, and RabbitMQ confirms. Found by seed 2 of `make chaos`."""
    async with working(settings), list_of(settings) as store:
        await store.add("jane@example.org", actor="jo", note="asked")
        await followers.hear("change-1")
        await make_anew_without_bindings(rabbit, settings)
        await store.add("john@example.org", actor="jo", note="asked")
        await store.remove("jane@example.org", reason=None, actor="jo", note="sorry")
        await followers.hear("change-2", "change-3")
    assert followers.unheard == 0


async def test_who_publishes_from_now_on_first_binds_all_who_follow_the_changes(
    settings: Settings, rabbit: Rabbit, followers: Followers
) -> None:
    """A queue that is bound already does not hide from it that others are not: that change is not returned."""
    async with list_of(settings) as store:
        await store.outbox.pending(1)
        assert store.outbox.holds_lease
        async with working(settings):
            await make_anew_without_bindings(rabbit, settings)
            async with rabbit.listening(rabbit.names.changes, "#") as bound:
                await store.add("jane@example.org", actor="jo", note="asked")
                await store.outbox.release_lease()
                assert (await bound.next()).message_id == "change-1"
            await followers.hear("change-1")


async def test_while_nobody_may_bind_the_queues_the_changes_wait(
    overrides: dict[str, Any],
    settings: Settings,
    rabbit: Rabbit,
    followers: Followers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `rabbitmq.declare = never` somebody else has to, one after the other: none counts as published before all can have it."""
    monkeypatch.setattr(relay_refusals, "backoff_seconds", lambda _: 0.05)
    checking = load_settings(overrides=overrides | {"rabbitmq": overrides["rabbitmq"] | {"declare": "never"}})
    with capture_logs() as said:
        async with working(checking), list_of(settings) as store:
            await store.add("jane@example.org", actor="jo", note="asked")
            await followers.hear("change-1")
            await make_anew_without_bindings(rabbit, settings)
            await store.add("john@example.org", actor="jo", note="asked")
            await eventually(lambda: sum(one["action"] == "relay.unbound" for one in said) >= 3)
            await declaring.declare(rabbit.connection, planned_topology(settings))
            assert await followers.crm() == "change-2"
            assert (await store.outbox.lag()).changes == 1, "the others may be bound after the first"
            await declaring.declare(rabbit.connection, planned_topology(settings, [COPY]))
            await followers.hear("change-2")
    assert not [one for one in said if one["action"] in {"broker.lost", "broker.retry"}]


async def test_nobody_else_makes_the_exchange_while_a_worker_publishes(
    settings: Settings, rabbit: Rabbit, followers: Followers
) -> None:
    """Another process knows only some who follow the changes, or is still binding them: that worker makes it, and binds all first."""
    planned = planned_topology(settings)
    async with list_of(settings) as store:
        receivers = RoleTopology(settings, planned, frozenset())
        workers = RoleTopology(
            settings, planned, frozenset(), may_make_changes=partial(nobody_publishes, store.outbox)
        )
        async with working(settings):
            await store.add("jane@example.org", actor="jo", note="asked")
            await followers.hear("change-1")
            async with rabbit.channel() as channel:
                await channel.exchange_delete(rabbit.names.changes)
            for other in (receivers, workers):
                assert await other.declare(rabbit.connection)
                assert not await exchange_exists(rabbit.connection, rabbit.names.changes)
            await store.add("john@example.org", actor="jo", note="asked")
            await followers.hear("change-2")
        async with rabbit.channel() as channel:
            await channel.exchange_delete(rabbit.names.changes)
        assert await workers.declare(rabbit.connection)
        assert await exchange_exists(rabbit.connection, rabbit.names.changes)


def list_of(settings: Settings) -> AbstractAsyncContextManager[Store]:
    return Store.open(settings.suppression.database_url.get_secret_value())
