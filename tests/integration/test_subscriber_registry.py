"""The registry of subscribers, in either database: one name stands once, whoever adds it, and whenever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from bridge.roles import registered_subscribers
from bridge.roles.registered_subscribers import RegisteredSubscribers
from bridge.settings.subscribers import Subscriber, together
from bridge.suppression import opening
from bridge.suppression.errors import SubscriberConflictError
from bridge.suppression.subscriber_registry import SubscriberRegistry, read_registered
from bridge.telemetry import logs
from tests.support import stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.quick

CRM = Subscriber(queue="crm", events=("*bounced",), max_length=10, ttl=0.5)


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[SubscriberRegistry]:
    async with opening.open_database(database_url, create=False) as database:
        yield SubscriberRegistry(database, clock=lambda: 1539062173.9)


async def test_one_is_in_force_when_that_is_said(registry: SubscriberRegistry, database_url: str) -> None:
    """With all of its settings; what a command reads, without a role, is the same."""
    await registry.reserve(CRM, actor="ann")
    assert await registry.current() == []
    assert await registry.set_in_force("crm", in_force=True)
    assert await registry.current() == [CRM]
    found = await read_registered(database_url)
    assert (found.current, found.note) == ([CRM], None)
    [registered] = found.subscribers
    assert registered.document() == {
        "queue": "crm",
        "events": ["hard_bounced", "soft_bounced"],
        "changes": False,
        "max_length": 10,
        "ttl": 0.5,
        "delivery_limit": None,
        "single_active_consumer": False,
        "added_at": "2018-10-09T05:16:13Z",
        "added_by": "ann",
        "in_force": True,
    }
    await registry.remove("crm")
    assert await registry.all() == []
    assert not await registry.set_in_force("crm", in_force=True)


@pytest.mark.parametrize("queue", ["crm", "crm.dead"])
async def test_of_many_that_add_at_once_one_does(registry: SubscriberRegistry, queue: str) -> None:
    """The others are told by whom it was; one that is called like the dead letters of another is refused, too."""
    crowd = [Subscriber(queue=name, changes=True) for name in ("crm", queue, "crm", queue)]
    outcomes = await asyncio.gather(
        *(registry.reserve(one, actor=f"no. {number}") for number, one in enumerate(crowd)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, SubscriberConflictError) for one in outcomes) == 3
    assert len(await registry.all()) == 1


async def test_what_stands_already_is_named(registry: SubscriberRegistry) -> None:
    """With who has added it, or how to end what was interrupted."""
    await registry.reserve(CRM, actor="ann")
    with pytest.raises(
        SubscriberConflictError, match=r"'crm' is being added or removed, .* remove crm` ends it"
    ):
        await registry.reserve(CRM, actor="bob")
    await registry.set_in_force("crm", in_force=True)
    with pytest.raises(
        SubscriberConflictError, match=r"'crm' is registered already, by ann at 2018-10-09T05:16:13Z"
    ):
        await registry.reserve(CRM, actor="bob")
    with pytest.raises(
        SubscriberConflictError, match=r"'crm.dead' is the queue of the dead letters of 'crm'"
    ):
        await registry.reserve(Subscriber(queue="crm.dead", changes=True), actor="bob")


async def test_one_of_a_newer_bridge_is_left_out(registry: SubscriberRegistry, database_url: str) -> None:
    """The others are read; commands know that not all are known, and take no queue for one that was left over."""
    await registry.reserve(CRM, actor="ann")
    await stores.execute(
        database_url,
        "INSERT INTO subscribers (queue, settings, added_at, added_by, in_force) "
        """VALUES ('new', '{"queue": "new", "changes": true, "priority": 5}', 1, 'ann', true)""",
    )
    assert [one.subscriber.queue for one in await registry.all()] == ["crm"]
    note = (await read_registered(database_url)).note
    assert note is not None
    assert "by a newer bridge are not known: this one cannot read those of new" in note


async def test_without_a_database_it_is_said_that_nothing_is_known(tmp_path: Path) -> None:
    """For commands that work all the same."""
    found = await read_registered(f"sqlite+aiosqlite:///{tmp_path}/nowhere.sqlite3")
    assert found.current == []
    assert found.note is not None
    assert found.note.startswith(
        "subscribers that were added by `bridge subscribers add` are not known: there is no"
    )


async def test_a_worker_says_once_that_the_settings_have_it_too(
    registry: SubscriberRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the settings are in force; it says so again when the registry changes that."""
    settings = (Subscriber(queue="crm", changes=True),)
    registered = RegisteredSubscribers(registry, prefix="", of_settings=settings)
    billing = Subscriber(queue="billing", changes=True)
    for one in (CRM, billing):
        await registry.reserve(one, actor="ann")
        await registry.set_in_force(one.queue, in_force=True)
    with capture_logs() as lines:
        # One that no test before has bound to where its lines go.
        monkeypatch.setattr(registered_subscribers, "log", logs.logger("roles"))
        for _ in range(2):
            assert await registered.read() == (billing,)
    [line] = lines
    assert (line["action"], line["queue"]) == ("subscribers.named_twice", "crm")


def test_the_settings_win_over_the_registry() -> None:
    """Also where a registered one is called like the dead letters of one of theirs."""
    of_settings = Subscriber(queue="crm", changes=True)
    others = [CRM, Subscriber(queue="crm.dead", changes=True), Subscriber(queue="billing", changes=True)]
    assert [one.queue for one in together([of_settings], others)] == ["crm", "billing"]
    assert together([of_settings], others)[0].events == ()


def test_one_that_gets_nothing_cannot_be() -> None:
    """Neither in the settings nor in the registry."""
    with pytest.raises(ValidationError, match="'crm' gets nothing"):
        Subscriber(queue="crm")
