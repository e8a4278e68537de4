"""`bridge doctor` on other services' queues: what is wrong with one, and what that costs, each a finding of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from yarl import URL

from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics import doctor
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.suppression.store import Store
from tests.support.working import changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings
    from tests.support.managed import Managed

CRM = Subscriber(queue="crm", events=("opened",), max_length=1000, ttl=3600)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ's API, which all tests ask, takes its time."""
    monkeypatch.setattr(doctor, "TIMEOUT_SECONDS", 30.0)


@pytest.fixture
def settings(managed: Managed, overrides: dict[str, Any], database_url: str) -> Settings:
    of_this_test = changed(
        overrides,
        rabbitmq={"urls": [managed.url], "management_url": managed.api},
        suppression={"database_url": database_url},
    )
    return load_settings(overrides=of_this_test).model_copy(update={"subscribers": (CRM,)})


@pytest.fixture
async def connection(managed: Managed) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    async with await aio_pika.connect(managed.url) as opened:
        yield opened


async def found(settings: Settings) -> list[Finding]:
    return [one for one in await doctor.run_checks(lambda: settings) if one.check == "subscribers"]


async def test_what_is_as_planned_takes_one_line(
    settings: Settings, connection: aio_pika.abc.AbstractConnection
) -> None:
    """Those that are registered only are looked at, too."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.subscribers.reserve(Subscriber(queue="shop", changes=True), actor="somebody")
        await store.subscribers.set_in_force("shop", in_force=True)
        await declaring.declare(connection, planned_topology(settings, await store.subscribers.current()))
    [finding] = await found(settings)
    assert (finding.status, finding.seen) == ("ok", "4 queues of theirs are as planned")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_missing_and_other_arguments(
    settings: Settings, connection: aio_pika.abc.AbstractConnection
) -> None:
    """What its team has declared otherwise has no dead letters; the queue of those is missing."""
    prefix = settings.rabbitmq.prefix
    async with connection.channel() as channel:
        await channel.declare_queue(
            f"{prefix}crm", durable=True, arguments={"x-queue-type": "quorum", "x-overflow": "reject-publish"}
        )
    missing, different = await found(settings)
    assert missing.status == "failed"
    assert missing.seen == (
        f"queue '{prefix}crm.dead' is missing: what it drops or its consumer rejects is lost"
    )
    assert "`bridge topology apply`" in missing.advice
    assert different.status == "warning"
    assert (
        "x-overflow is reject-publish, not drop-head: it may reject events when it is full" in different.seen
    )
    assert "x-dead-letter-exchange is none, not '': " in different.seen
    assert f"x-dead-letter-routing-key is none, not {prefix}crm.dead" in different.seen
    assert "`bridge topology apply --migrate`" in different.advice


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_policy_of_the_operator_that_changes_its_limits(
    settings: Settings, connection: aio_pika.abc.AbstractConnection, managed: Managed
) -> None:
    """Each limit that is lower than its own is named, with where the messages go; one that is higher is not in force."""
    await declaring.declare(connection, planned_topology(settings))
    prefix, host = settings.rabbitmq.prefix, URL(managed.url).path.strip("/")
    await managed.control.set_policy(host, "loud", f"^{prefix}crm$", overflow="reject-publish")
    await managed.control.set_policy(
        host, "house", f"^{prefix}crm$", operator=True, max_length=5000, message_ttl=60_000
    )
    # RabbitMQ tells of a policy after some seconds, and of one before the other.
    async with asyncio.timeout(90):
        while "'loud' and operator policy 'house'" not in (findings := await found(settings))[0].seen:
            pass
    [finding] = findings
    assert finding.status == "warning"
    assert finding.seen == (
        f"queue '{prefix}crm' rejects events when it is full (overflow: reject-publish): each then is nacked for everybody, "
        f"and goes round through the spool; keeps messages for only 60 s (message-ttl): then each goes to '{prefix}crm.dead', "
        "by policy 'loud' and operator policy 'house'"
    )
    assert "clear_operator_policy" in finding.advice
