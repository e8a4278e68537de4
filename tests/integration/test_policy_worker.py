"""The policy in a worker: soft bounces and deliveries from RabbitMQ to the list, and what ends is published."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from bridge.suppression.store import Store
from bridge.worker import expirer
from tests.support.commands import bridge
from tests.support.working import body_of, changed, working

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.working import Workplace

JANE = "jane@example.org"
JOE = "recipient7@example.org"
JOES_MESSAGE = 7
"""Nobody has announced it: the provider says to whom it went."""
EVENTS = ["hard_bounced", "complained", "soft_bounced", "unsubscribed"]


@pytest.fixture
def settings(overrides: dict[str, dict[str, Any]]) -> Settings:
    policy = {"events": EVENTS, "soft_bounce_threshold": 2, "soft_bounce_expiry": 3600}
    return load_settings(overrides=changed(overrides, suppression=policy))


async def announce(settings: Settings) -> None:
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({str(number): JANE for number in (1, 2, 3, 4)})


def said(changes: list[dict[str, Any]]) -> list[tuple[str, str, str | None, str, bool]]:
    return [
        (change["action"], change["address"], change["reason"], change["note"], change["still_suppressed"])
        for change in changes
    ]


def test_the_queue_gets_deliveries_only_where_they_are_needed(
    overrides: dict[str, dict[str, Any]], settings: Settings
) -> None:
    """They are most of all events."""

    def bound(of: Settings) -> set[str]:
        planned = planned_topology(of)
        return {one.key for one in planned.bindings if one.queue.endswith("suppression")}

    assert bound(settings) == {*EVENTS, "complined", "delivered"}
    assert bound(load_settings(overrides=overrides)) == {"hard_bounced", "complained", "complined"}


async def test_soft_bounces_suppress_and_a_delivery_ends_it(settings: Settings, workplace: Workplace) -> None:
    """Of an address that is not known a soft bounce is looked up, and a delivery is not: nobody asks the provider for it."""
    await announce(settings)
    now = int(time.time())
    async with working(settings):
        await workplace.send(
            body_of("delivered", JOES_MESSAGE, now),
            body_of("soft_bounced", 1, now - 60),
            body_of("soft_bounced", 1, now - 50),
            body_of("soft_bounced", 2, now - 40),
        )
        await workplace.changes(1)
        await workplace.send(body_of("delivered", 3, now - 30))
        changes = await workplace.changes(2)
        await workplace.send(body_of("soft_bounced", JOES_MESSAGE, now - 20), body_of("hard_bounced", 4, now))
        changes = await workplace.changes(3)
    assert said(changes) == [
        ("added", JANE, "soft_bounce", "", True),
        ("removed", JANE, "soft_bounce", "delivered", False),
        ("added", JANE, "hard_bounce", "", True),
    ]
    assert await workplace.dead() == []
    assert await workplace.left() == []
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        known = await store.known_addresses([str(JOES_MESSAGE)])
        assert await store.check(JOE) == []
    assert known in ({}, {str(JOES_MESSAGE): JOE}), "the look-up may have been going on at the end"


async def test_what_ends_is_taken_off_and_published(
    settings: Settings, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the routing key `expired`, by the worker that publishes; what has no end stays."""
    monkeypatch.setattr(expirer, "EVERY_SECONDS", 0.05)
    url = settings.suppression.database_url.get_secret_value()
    async with working(settings), Store.open(url) as store:
        await store.add(JOE, actor="ann", note="")  # first, lest the other one ends before it is there
        await store.add(JANE, actor="ann", note="on holiday", expires_at=int(time.time()) + 5)
        changes = await workplace.changes(3)
        assert await store.check(JANE) == []
        assert [entry.address for entry in await store.entries(limit=9)] == [JOE]
    assert sorted(said(changes[:2])) == [
        ("added", JANE, "manual", "on holiday", True),
        ("added", JOE, "manual", "", True),
    ]
    assert said(changes[2:]) == [("expired", JANE, "manual", "", False)]
    assert changes[2]["actor"] == "policy"


async def test_a_replayed_archive_does_not_put_back_what_a_person_has_taken_off(
    settings: Settings, workplace: Workplace, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """For any reason, also soft bounces, and where the list has forgotten that it has handled them; newer events do."""
    await announce(settings)
    url = settings.suppression.database_url.get_secret_value()
    now = int(time.time())
    old = [
        body_of("hard_bounced", 1, now - 60),
        body_of("complained", 2, now - 60),
        body_of("unsubscribed", 3, now - 60),
        # One after the other: the second makes the entry, whichever batches the worker makes of them. Of one second, the third
        # would change it, where it comes later and is before the others by its id.
        *(body_of("soft_bounced", number, now - 60 + number) for number in (1, 2, 3)),
    ]
    async with working(settings), Store.open(url) as store:
        await workplace.send(*old)
        await workplace.changes(4)
        await store.remove(JANE, reason=None, actor="ann", note="asked us by phone", override=True)
        await workplace.changes(8)
        async with store._database.write() as connection:
            await connection.exec_driver_sql("DELETE FROM handled_events")
            await connection.exec_driver_sql("DELETE FROM soft_bounces")
        replayed = await bridge(
            "replay",
            "--since",
            "2018-01-01",
            "--to",
            workplace.names.suppression,
            "--json",
            directory=tmp_path,
            BRIDGE_RABBITMQ__URL=amqp_url,
            BRIDGE_RABBITMQ__PREFIX=prefix,
        )
        assert replayed.code == 0, replayed.stderr
        assert orjson.loads(replayed.stdout)["total"] == len(old)
        later = now + 3600
        await workplace.send(
            body_of("soft_bounced", 1, later),
            body_of("hard_bounced", 4, later),
            body_of("soft_bounced", 2, later),
        )
        changes = (await workplace.changes(10))[8:]
        assert sorted(entry.reason.value for entry in await store.check(JANE)) == [
            "hard_bounce",
            "soft_bounce",
        ]
    assert {(change["action"], change["reason"]) for change in changes} == {
        ("added", "hard_bounce"),
        ("added", "soft_bounce"),
    }
