"""The relay: every change of the list is published, in order, whoever made it and whenever RabbitMQ was away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson

from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from bridge.suppression.changes import Outbox
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.worker import relay_refusals
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.working import bounces, changed, working

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import pytest

    from bridge.settings.sections import Settings
    from bridge.suppression.change import Change
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


async def test_a_change_is_published_with_the_documented_body(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """Under its action, persistent, with an id of its own; everything but the evidence is in the body. It is a CloudEvent."""
    async with rabbit.listening(rabbit.names.changes, "added") as added, working(settings):
        await workplace.send(*bounces([1]))
        message = await added.next()
    (change,) = await workplace.changes(1)
    assert orjson.loads(message.body) == change
    assert change == {
        "id": 1,
        "action": "added",
        "address": "recipient1@example.org",
        "reason": "hard_bounce",
        "at": change["at"],
        "actor": "worker",
        "note": "",
        "event_id": change["event_id"],
        "message_id": "1",
        "still_suppressed": True,
        "reasons": ["hard_bounce"],
    }
    assert (message.message_id, message.type, message.app_id) == ("change-1", "added", "bridge")
    assert (message.content_type, message.delivery_mode) == ("application/json", 2)
    assert message.headers == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": "change-1",
        "cloudEvents:source": "/suppressions",
        "cloudEvents:type": "suppression.added",
        "cloudEvents:subject": "recipient1@example.org",
        "cloudEvents:time": change["at"],
    }


async def test_changes_are_published_in_their_order_under_their_actions(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """Added, updated, removed, and added again, as it happened; each key gets its own."""
    async with _store(settings) as store:
        for number in range(50):
            address = f"a{number}@example.org"
            await store.add(address, actor="jane", note="asked")
            await store.add(address, actor="jane", note="asked again")
            await store.remove(address, reason=None, actor="jane", note="sorry")
    async with rabbit.listening(rabbit.names.changes, "removed") as removed, working(settings):
        changes = await workplace.changes(150)
        keys = [(await removed.next()).routing_key for _ in range(50)]
    assert [change["id"] for change in changes] == list(range(1, 151))
    assert [change["action"] for change in changes] == ["added", "updated", "removed"] * 50
    assert changes[2]["note"] == "sorry"
    assert set(keys) == {"removed"}


async def test_more_changes_than_may_be_in_flight_are_published_all_the_same(
    overrides: dict[str, Any], workplace: Workplace
) -> None:
    """A small `worker.prefetch`, which bounds what is in flight, slows the relay and does not stop it."""
    settings = load_settings(overrides=changed(overrides, worker={"prefetch": 3}))
    async with _store(settings) as store:
        for number in range(10):
            await store.add(f"a{number}@example.org", actor="jane", note="asked")
    async with working(settings):
        changes = await workplace.changes(10)
        assert [change["id"] for change in changes] == list(range(1, 11))
        async with _store(settings) as store:
            await store.add("last@example.org", actor="jane", note="asked")
        await workplace.changes(11)
    async with _store(settings) as store:
        assert (await store.outbox.lag()).changes <= 1


async def test_what_others_change_is_published_too(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace, processes: Processes
) -> None:
    """`bridge suppressions add` and `remove`, in processes of their own, are heard within a moment."""
    async with working(settings):
        for command in (
            ("add", "jane@example.org", "--note", "asked by phone", "--actor", "jo"),
            ("remove", "jane@example.org", "--note", "asked again", "--actor", "jo"),
        ):
            process = await processes.start("suppressions", *command, overrides=overrides)
            assert await process.ended() == 0, process.lines
        changes = await workplace.changes(2)
    assert [(change["action"], change["note"], change["actor"]) for change in changes] == [
        ("added", "asked by phone", "jo"),
        ("removed", "asked again", "jo"),
    ]


async def test_more_changes_than_may_be_in_flight_are_published_in_their_order(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """What the window has no room for is sent next, each once."""
    async with _store(settings) as store:
        for number in range(50):
            await store.add(f"a{number}@example.org", actor="jane", note="asked")
    narrow = load_settings(overrides=changed(overrides, worker={"prefetch": 7}))
    async with rabbit.listening(rabbit.names.changes, "#") as heard, working(narrow):
        await workplace.changes(50)
        messages = await heard.take(50)
    assert [message.message_id for message in messages] == [f"change-{number}" for number in range(1, 51)]
    assert heard.waiting == 0


async def test_a_change_that_is_made_while_rabbitmq_is_away_is_published_later(
    overrides: dict[str, Any], amqp_url: str, workplace: Workplace, processes: Processes
) -> None:
    """It waits in the outbox, in the same file as the list."""
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]})
        worker = await processes.start("worker", overrides=through)
        await worker.says("relay.lease_acquired")
        proxy.refuse()
        await worker.says("broker.retry", use="publish")
        async with _store(load_settings(overrides=overrides)) as store:
            await store.add("jane@example.org", actor="jo", note="asked")
        await worker.says("relay.waiting")
        proxy.accept()
        (change,) = await workplace.changes(1)
    assert change["address"] == "jane@example.org"


async def test_a_change_that_is_refused_comes_again_before_those_behind_it(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """Whoever heard of a later change before hears of it once more, so that the last word is the right one."""
    async with rabbit.channel() as channel:
        full = await channel.declare_queue(
            exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(rabbit.names.changes, "added")
        async with _store(settings) as store:
            await store.add("first@example.org", actor="jo", note="fills the queue")
            await store.add("jane@example.org", actor="jo", note="is refused")
            await store.remove("jane@example.org", reason=Reason.MANUAL, actor="jo", note="is not")
        async with rabbit.listening(rabbit.names.changes, "#") as heard, working(settings):
            await workplace.changes(3)
            await full.unbind(rabbit.names.changes, "added")
            async with _store(settings) as store:
                await store.add("last@example.org", actor="jo", note="the end")
            ids: list[str | None] = []
            while not ids or ids[-1] != "change-4":
                ids.append((await heard.next()).message_id)
    assert ids[:3] == ["change-1", "change-2", "change-3"]
    assert ids[-3:] == ["change-2", "change-3", "change-4"]


async def test_a_change_that_is_refused_is_tried_later_and_later(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else follows the changes gets a copy with each attempt: that new ones come in is no reason to hurry."""
    asked: list[int] = []

    def pause(attempts: int) -> float:
        asked.append(attempts)
        return 0.05

    monkeypatch.setattr(relay_refusals, "backoff_seconds", pause)
    limits: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with rabbit.channel() as channel, rabbit.listening(rabbit.names.changes, "#") as innocent:
        full = await channel.declare_queue(exclusive=True, arguments=limits)
        await full.bind(rabbit.names.changes, "#")
        async with working(settings):
            await workplace.send(*bounces([1]))
            await eventually(lambda: len(asked) >= 4)
            await full.unbind(rabbit.names.changes, "#")
            await workplace.send(*bounces([2]))
            while (await innocent.next()).message_id != "change-2":
                pass
    assert asked == list(range(1, len(asked) + 1))


async def test_a_change_that_nobody_listens_to_is_no_error(settings: Settings, rabbit: Rabbit) -> None:
    """Which services are told is theirs to decide: the change counts as published, and holds up none."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    async with (
        rabbit.listening(rabbit.names.changes, "removed") as removed,
        working(settings),
        _store(settings) as store,
    ):
        for _ in range(2):
            await store.add("jane@example.org", actor="jo", note="nobody hears of it")
            await store.remove("jane@example.org", reason=None, actor="jo", note="sorry")
            await removed.next()
        waiting = {change.id for change in await store.outbox.pending(10)}
    assert waiting.isdisjoint({1, 2}), "the first two were marked before the others were published"


class _HeldUp(Outbox):
    """Of a process that stands still once it has read changes, until another has published them in its place."""

    async def pending(self, limit: int) -> list[Change]:
        changes = await super().pending(limit)
        if changes and changes[0].address == "jane@example.org":
            another = Outbox(self._database, time.time, lease_seconds=60)
            while not another.holds_lease:
                taken = await another.pending(limit)
            await another.mark_published([change.id for change in taken])
            await another.release_lease()
        return changes


async def test_who_stood_still_since_it_has_read_changes_publishes_none_of_them(
    overrides: dict[str, Any], workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have published them, and later ones of the same entries: it reads again before it sends."""
    settings = load_settings(overrides=changed(overrides, worker={"take_over_after": 1.0}))
    monkeypatch.setattr("bridge.suppression.store.Outbox", _HeldUp)
    async with _store(settings) as store:
        await store.add("jane@example.org", actor="jo", note="is published by another")
        async with working(settings):
            while (await store.outbox.lag()).changes:  # noqa: ASYNC110 -- only the database knows
                await asyncio.sleep(0.01)
            await store.add("last@example.org", actor="jo", note="the end")
            (change,) = await workplace.changes(1)
    assert change["address"] == "last@example.org"


def _store(settings: Settings) -> AbstractAsyncContextManager[Store]:
    return Store.open(settings.suppression.database_url.get_secret_value())
